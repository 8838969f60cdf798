"""Samples that go through a model together."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from razorlite.structures.annotation import Annotation
from razorlite.structures.frames import Frame
from razorlite.structures.inputs import Inputs, images_of, map_inputs, tensors_of
from razorlite.structures.packing import sent

Size = tuple[int, int]


@dataclass(frozen=True)
class Batch:
    """What a model is given, and what it shows.

    Attributes:
        inputs: images (B, 3, H, W), uint8 from the loader's workers, normalised float on the
            device; or a mapping of tensors whose first dimension is the sample, in which names that
            begin with "images" are images (B, …, 3, H, W) and all else is left as it is.
        targets: B annotations, such as `Target`s; (B,) int64 labels for classification; None where
            nothing is known.
        sizes: (height, width) of each sample's images inside the batch, without padding; None where
            they are as the targets say, or all without padding.
    """

    inputs: Inputs
    targets: Any = None
    sizes: tuple[Size, ...] | None = None

    def __len__(self) -> int:
        return len(tensors_of(self.inputs)[0])

    @property
    def images(self) -> Tensor:
        """The images of the inputs; of several, the first."""
        found = images_of(self.inputs)
        if found is None:
            raise AttributeError("the batch has no images among its inputs")
        return found

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on a device."""
        targets = self.targets
        if isinstance(targets, Tensor):
            targets = sent(targets, device)
        elif targets is not None:
            targets = [target.to(device) for target in targets]
        inputs = map_inputs(lambda value: sent(value, device), self.inputs)
        return replace(self, inputs=inputs, targets=targets)

    def image_sizes(self) -> list[Size]:
        """Return (height, width) of each sample's images inside the batch, without padding."""
        return [frame.size for frame in self.frames()] if self.sizes is None else list(self.sizes)

    def frames(self) -> list[Frame]:
        """Return where each image lies in its padding, and how large it was before.

        Where nothing is known of that, images are whole and stay at their size.
        """
        canvas = (self.images.shape[-2], self.images.shape[-1])
        if isinstance(self.targets, list) and all(hasattr(t, "frame") for t in self.targets):
            return [target.frame(canvas) for target in self.targets]
        sizes = self.sizes or [canvas] * len(self)
        return [Frame(size, size) for size in sizes]

    def originals(self) -> Any:
        """Return the targets as metrics compare them with predictions."""
        if not isinstance(self.targets, list):
            return self.targets
        return [t.original() if isinstance(t, Annotation) else t for t in self.targets]
