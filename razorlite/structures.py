"""What travels between data, models and metrics: frozen dataclasses of tensors.

Boxes are x1, y1, x2, y2 in pixels, x to the right, y down; labels count from 0.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """Where an image lies in a batch, from the upper left corner on, and how large it was before.

    Attributes:
        size: (height, width) inside the batch, without padding.
        original: (height, width) to which what is found in it is scaled.
    """

    size: tuple[int, int]
    original: tuple[int, int]

    def to_original(self, boxes: Tensor) -> Tensor:
        """Return (N, 4) boxes of the batch in pixels of the original image, clipped to it."""
        height, width = self.original
        y, x = height / self.size[0], width / self.size[1]
        limits = boxes.new_tensor([width, height, width, height])
        return torch.minimum((boxes * boxes.new_tensor([x, y, x, y])).clamp(min=0), limits)


def whole_frames(images: Tensor) -> list[Frame]:
    """Return the frames of images (N, 3, H, W) without padding, to be left at their size."""
    size = (images.shape[-2], images.shape[-1])
    return [Frame(size, size)] * len(images)


@dataclass(frozen=True)
class Target:
    """What one image is known to show.

    Attributes:
        boxes: (N, 4) float, x1, y1, x2, y2 in pixels of the image tensor.
        labels: (N,) int64, 0 to C - 1.
        crowd: (N,) bool, boxes around groups that count only in evaluation; none by default.
        masks: (N, H, W) bool, or None.
        image_id: the data set's own identifier.
        size: (height, width) of the image inside the batch tensor, without padding.
        original_size: (height, width) of the image file.
        area: (N,) float, square pixels of the image file as annotated, by which COCO tells small,
            medium and large objects apart; None where nothing is stated.
        original_masks: (N, *original_size) bool as annotated, where they are kept for evaluation.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor | None = None
    masks: Tensor | None = None
    image_id: int | str = 0
    size: tuple[int, int] = (0, 0)
    original_size: tuple[int, int] = (0, 0)
    area: Tensor | None = None
    original_masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, keep: Tensor) -> "Target":
        """Return the target with only the objects that `keep` (mask or indices) names."""
        optional = ("crowd", "masks", "area", "original_masks")
        stated = {name: getattr(self, name) for name in optional}
        kept: dict[str, Any] = {
            name: None if value is None else value[keep] for name, value in stated.items()
        }
        return replace(self, boxes=self.boxes[keep], labels=self.labels[keep], **kept)

    def frame(self, canvas: tuple[int, int]) -> Frame:
        """Return where the image lies in a batch of images of `canvas` = (height, width) pixels."""
        if 0 in self.size:
            return Frame(canvas, canvas)
        return Frame(self.size, self.size if 0 in self.original_size else self.original_size)

    def without_crowd(self) -> "Target":
        """Return the target without crowd boxes, as losses want it."""
        return self if self.crowd is None else self[~self.crowd]

    def to(self, device: torch.device | str) -> "Target":
        """Return the target with its tensors on a device."""
        return _to(self, device)


@dataclass(frozen=True)
class Detections:
    """What a detector found in one image, best first.

    Attributes:
        boxes: (N, 4) float, x1, y1, x2, y2 in pixels.
        scores: (N,) float in [0, 1].
        labels: (N,) int64, 0 to C - 1.
        masks: (N, H, W) bool, or None.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, keep: Any) -> "Detections":
        """Return the detections that `keep` (mask, indices or slice) names."""
        masks = None if self.masks is None else self.masks[keep]
        return Detections(self.boxes[keep], self.scores[keep], self.labels[keep], masks)

    def to(self, device: torch.device | str) -> "Detections":
        """Return the detections with their tensors on a device."""
        return _to(self, device)


@dataclass(frozen=True)
class Batch:
    """Images and what they show.

    Attributes:
        images: (B, 3, H, W); uint8 from the loader's workers, normalised float on the device.
        targets: B `Target`s for detection, or (B,) int64 labels for classification.
        sizes: (height, width) of each image inside the batch, without padding; None where they
            are as the targets say, or all without padding.
    """

    images: Tensor
    targets: Any
    sizes: tuple[tuple[int, int], ...] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on a device."""
        targets = self.targets
        moved = (
            targets.to(device) if isinstance(targets, Tensor) else [t.to(device) for t in targets]
        )
        return Batch(self.images.to(device, non_blocking=True), moved, self.sizes)

    def image_sizes(self) -> list[tuple[int, int]]:
        """Return (height, width) of each image inside the batch, without padding."""
        canvas = (self.images.shape[-2], self.images.shape[-1])
        if self.sizes is not None:
            return list(self.sizes)
        if not isinstance(self.targets, list):
            return [canvas] * len(self)
        return [target.frame(canvas).size for target in self.targets]


def _to(record: Any, device: torch.device | str) -> Any:
    tensors = {
        name: value.to(device, non_blocking=True)
        for name, value in vars(record).items()
        if isinstance(value, Tensor)
    }
    return replace(record, **tensors)
