"""Which query learns which object."""

import torch
from torch import Tensor

from projects.detr3d.boxes import encode
from razorlite.core.ranges import NonNegative
from razorlite.core.registry import register
from razorlite.ops.matching import match

_EPS = 1e-12
_COMPARED = 8  # numbers of a code without the velocity


def focal_costs(logits: Tensor, labels: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return (Q, N): how much more the focal loss of query q is without object n than with it.

    Args:
        logits: (Q, C).
        labels: (N,) int64 of the objects.
        alpha: weight of objects against background.
        gamma: how fast the weight of well classified entries falls.
    """
    chances = logits.sigmoid()
    absent = -(1 - chances + _EPS).log() * (1 - alpha) * chances**gamma
    present = -(chances + _EPS).log() * alpha * (1 - chances) ** gamma
    return (present - absent)[:, labels]


@register()
class HungarianAssigner3D:
    """Gives every object to one query, all together at the least cost.

    DETR3D, https://arxiv.org/abs/2110.06922, section 3.3.
    """

    def __init__(self, *, class_cost: NonNegative = 2.0, box_cost: NonNegative = 0.25) -> None:
        """Weigh the focal cost of classes and the L1 distance of codes without velocity."""
        self.class_cost, self.box_cost = class_cost, box_cost

    @torch.no_grad()
    def __call__(
        self, logits: Tensor, codes: Tensor, labels: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the matched queries and, in the same order, their objects, (K,) int64 each.

        Args:
            logits: (Q, C).
            codes: (Q, 10) predicted, centres in metres.
            labels: (N,) int64.
            boxes: (N, 9).
        """
        objects = encode(boxes)[:, :_COMPARED]
        distance = torch.cdist(codes[:, :_COMPARED].to(objects), objects, p=1)
        return match(self.class_cost * focal_costs(logits, labels) + self.box_cost * distance)
