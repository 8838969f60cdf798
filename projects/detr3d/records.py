"""What a key frame is known to show, and what is found in it."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from razorlite.structures import Annotation, Record


@dataclass(frozen=True)
class Objects(Annotation):
    """What one key frame is known to show, in the lidar's frame (see `projects.detr3d.boxes`).

    Attributes:
        boxes: (N, 9) float; unknown velocities are NaN, and count as 0 in training.
        labels: (N,) int64, 0 to C - 1.
        points: (N, 2) int64, how many points of the lidar and of the radars lie in each box.
        attributes: name of each object's attribute, such as "vehicle.moving"; empty if unknown.
        token: of the sample.
        lidar2global: (4, 4) float64, from the lidar's frame to the map's.
        ego: (3,) float64, where the car is on the map, in metres.
        bicycle_racks: (R, 10) float64 on the map: x, y, z of the middle, sizes w, l, h, and the
            rotation w, x, y, z.
    """

    boxes: Tensor
    labels: Tensor
    points: Tensor
    attributes: tuple[str, ...] = ()
    token: str = ""
    lidar2global: Tensor | None = None
    ego: Tensor | None = None
    bicycle_racks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def at_rest(self) -> "Objects":
        """Return the annotation with 0 for each velocity that is not known."""
        return replace(self, boxes=self.boxes.nan_to_num(nan=0.0))

    def with_boxes(self, boxes: Tensor) -> "Objects":
        """Return the annotation with other (N, 9) boxes of the same objects."""
        return replace(self, boxes=boxes)

    def __getitem__(self, keep: Tensor) -> "Objects":
        """Return the annotation with only the objects that `keep` (mask or indices) names."""
        rows = torch.arange(len(self))[keep.cpu()].tolist()
        return replace(
            self,
            boxes=self.boxes[keep],
            labels=self.labels[keep],
            points=self.points[keep],
            attributes=tuple(self.attributes[i] for i in rows) if self.attributes else (),
        )


@dataclass(frozen=True)
class Found(Record):
    """What was found in one key frame, best first.

    Attributes:
        boxes: (K, 9) in the lidar's frame.
        scores: (K,) in [0, 1].
        labels: (K,) int64, 0 to C - 1.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, keep: Tensor | slice) -> "Found":
        """Return what `keep` (mask, indices or slice) names."""
        return Found(self.boxes[keep], self.scores[keep], self.labels[keep])


def heading(rotation: Tensor) -> float:
    """Return the yaw in radians of a (3, 3) rotation: where its x axis points in the x-y plane."""
    return math.atan2(float(rotation[1, 0]), float(rotation[0, 0]))
