"""What detectors find."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from razorlite.structures.packing import Record


@dataclass(frozen=True)
class Detections(Record):
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
