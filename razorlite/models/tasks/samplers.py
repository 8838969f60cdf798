"""Samplers: which of the assigned candidates a step learns from."""

import torch
from torch import Tensor

from razorlite.core.registry import register
from razorlite.ops.assigning import BACKGROUND, IGNORED


@register()
class RandomSampler:
    """Keeps a fixed number of candidates, a share of them objects if there are enough."""

    def __init__(
        self, *, num: int, pos_fraction: float = 0.5, add_gt_as_proposals: bool = False
    ) -> None:
        """Choose how many.

        Args:
            num: candidates per image at most.
            pos_fraction: share of objects among them at most; background fills up.
            add_gt_as_proposals: whether the objects' own boxes join the proposals of a RoI head.
        """
        self.num, self.pos_fraction = num, pos_fraction
        self.add_gt_as_proposals = add_gt_as_proposals

    def __call__(self, assigned: Tensor) -> Tensor:
        """Return (P,) assignments in which what is not sampled is IGNORED."""
        assigned = assigned.clone()
        objects = self._thin(assigned, assigned >= 0, int(self.num * self.pos_fraction))
        self._thin(assigned, assigned == BACKGROUND, self.num - objects)
        return assigned

    def _thin(self, assigned: Tensor, chosen: Tensor, limit: int) -> int:
        """Leave `limit` of the chosen at most; return how many are left."""
        rows = chosen.nonzero().squeeze(1)
        if len(rows) > limit:
            order = torch.randperm(len(rows), device=rows.device)
            assigned[rows[order[limit:]]] = IGNORED
        return min(len(rows), limit)
