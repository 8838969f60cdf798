"""What an image is known to show, for detection."""

from dataclasses import dataclass, replace
from typing import Any

import torch.nn.functional as nn_functional
from torch import Tensor

from razorlite.structures.annotation import Annotation
from razorlite.structures.frames import Frame


@dataclass(frozen=True)
class Target(Annotation):
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

    def original(self) -> "Target":
        """Return the target in pixels of the original image."""
        if 0 in (*self.size, *self.original_size):
            return self
        boxes = self.frame(self.size).to_original(self.boxes)
        masks = self._masks_of_original()
        return replace(self, boxes=boxes, masks=masks, size=self.original_size)

    def objects(self) -> int:
        """Return how many objects count: no crowds."""
        return len(self) if self.crowd is None else int((~self.crowd).sum())

    def for_evaluation(self) -> "Target":
        """Return the target with its masks kept beside what becomes of them."""
        return replace(self, original_masks=self.masks)

    def padded(self, canvas: tuple[int, int]) -> "Target":
        """Return the target with masks as large as the batch's images."""
        if self.masks is None:
            return self
        height, width = self.masks.shape[-2:]
        border = (0, canvas[1] - width, 0, canvas[0] - height)
        return replace(self, masks=nn_functional.pad(self.masks, border))

    def _masks_of_original(self) -> Tensor | None:
        masks = self.masks
        if self.original_masks is not None:
            return self.original_masks
        if masks is None or len(masks) == 0:
            return masks
        height, width = self.size
        inside = masks[:, :height, :width]
        if self.size == self.original_size:
            return inside
        scaled = nn_functional.interpolate(
            inside[None].float(), self.original_size, mode="bilinear"
        )
        return scaled[0] >= 0.5
