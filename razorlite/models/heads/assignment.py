"""Which of a head's predictions learn which objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from razorlite.ops.assigning import BACKGROUND
from razorlite.structures import Target

Size = tuple[int, int]


@dataclass(frozen=True)
class Assignment:
    """Which of the predictions of a batch learn which objects.

    A prediction is what a head says at one prior of one image: an anchor, a point or a query.

    Attributes:
        index: (B, P) int64, the number of the prediction's object in its image's target,
            BACKGROUND or IGNORED, see `razorlite.ops.assigning`.
        labels: (B, P) int64, the object's class; the number of classes for background, -1 for
            ignored.
        image: (K,) int64, the images of the predictions that learn an object ...
        row: (K,) int64, ... and their numbers.
        boxes: (K, 4), these objects, x1, y1, x2, y2 in pixels.
        sizes: (height, width) in pixels of the B images, without padding.
        quality: (K,) IoU of these predictions with their objects, from assigners that measure it.
    """

    index: Tensor
    labels: Tensor
    image: Tensor
    row: Tensor
    boxes: Tensor
    sizes: tuple[Size, ...]
    quality: Tensor | None = None

    @classmethod
    def of(
        cls,
        index: Tensor,
        targets: list[Target],
        sizes: Sequence[Size],
        num_classes: int,
        quality: Tensor | None = None,
    ) -> Assignment:
        """Look up what the objects are.

        Args:
            index: (B, P), as above.
            targets: of the B images, without crowd boxes.
            sizes: (height, width) in pixels of the images, without padding.
            num_classes: how many classes there are.
            quality: (B, P) IoUs.
        """
        boxes, known, _ = pad_targets(targets)
        image, row = (index >= 0).nonzero(as_tuple=True)
        return cls(
            index=index,
            labels=labels_of(index, known, num_classes),
            image=image,
            row=row,
            boxes=boxes[image, index[image, row]],
            sizes=tuple(sizes),
            quality=None if quality is None else quality[image, row],
        )


def pad_targets(targets: list[Target]) -> tuple[Tensor, Tensor, Tensor]:
    """Return (B, N, 4) boxes, (B, N) labels and (B, N) bool, true where there is an object."""
    boxes = pad_sequence([t.boxes for t in targets], batch_first=True)
    labels = pad_sequence([t.labels for t in targets], batch_first=True)
    counts = torch.tensor([len(t) for t in targets], device=boxes.device)
    return boxes, labels, torch.arange(boxes.shape[1], device=boxes.device) < counts[:, None]


def labels_of(index: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return int64 class per prediction: `num_classes` for background, -1 for ignored.

    Args:
        index: (..., P), as in `Assignment`.
        labels: (..., N) of the objects.
        num_classes: how many classes there are.
    """
    background = torch.where(index == BACKGROUND, num_classes, -1)
    if labels.shape[-1] == 0:
        return background
    return torch.where(index >= 0, labels.gather(-1, index.clamp(min=0)), background)
