"""Samplers: which of the assigned candidates a step learns from."""

import torch
from torch import Tensor

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, Share
from razorlite.core.registry import register
from razorlite.ops.assigning import BACKGROUND, IGNORED


@register()
class RandomSampler:
    """Keeps a fixed number of candidates, a share of them objects if there are enough.

    Attributes:
        by_loss: whether it wants to see the candidates' losses.
    """

    by_loss = False

    def __init__(
        self, *, num: Count, pos_fraction: Share = 0.5, add_gt_as_proposals: bool = False
    ) -> None:
        """Choose how many.

        Args:
            num: candidates per image at most.
            pos_fraction: share of objects among them at most; background fills up.
            add_gt_as_proposals: whether the objects' own boxes join the proposals of a RoI head.
        """
        self.num, self.pos_fraction = num, pos_fraction
        self.add_gt_as_proposals = add_gt_as_proposals

    def __call__(self, assigned: Tensor, losses: Tensor | None = None) -> Tensor:
        """Return (P,) assignments in which what is not sampled is IGNORED.

        Args:
            assigned: (P,) from `razorlite.ops.assigning`.
            losses: (P,) of the candidates, for a sampler that is `by_loss`.
        """
        assigned = assigned.clone()
        objects = self._thin(assigned, assigned >= 0, int(self.num * self.pos_fraction), losses)
        self._thin(assigned, assigned == BACKGROUND, self.num - objects, losses)
        return assigned

    def _thin(self, assigned: Tensor, chosen: Tensor, limit: int, losses: Tensor | None) -> int:
        """Leave `limit` of the chosen at most; return how many are left."""
        rows = chosen.nonzero().squeeze(1)
        if len(rows) > limit:
            assigned[rows[self._order(rows, losses)[limit:]]] = IGNORED
        return min(len(rows), limit)

    def _order(self, rows: Tensor, losses: Tensor | None) -> Tensor:
        return torch.randperm(len(rows), device=rows.device)


@register()
class PseudoSampler(RandomSampler):
    """Keeps every candidate."""

    def __init__(self, *, add_gt_as_proposals: bool = False) -> None:
        """Choose whether the objects' own boxes join the proposals of a RoI head."""
        super().__init__(num=2**31, add_gt_as_proposals=add_gt_as_proposals)

    def __call__(self, assigned: Tensor, losses: Tensor | None = None) -> Tensor:
        """Return (P,) assignments as they are."""
        return assigned


@register()
class OHEMSampler(RandomSampler):
    """Keeps the candidates with the greatest loss, objects and background apart.

    The loss is the cross entropy of the head that learns. For RoI heads only: their proposals are
    few enough to be looked at twice. https://arxiv.org/abs/1604.03540
    """

    by_loss = True

    def _order(self, rows: Tensor, losses: Tensor | None) -> Tensor:
        if losses is None:
            raise ConfigError(
                "OHEMSampler needs the losses of proposals, which only a RoI head has; use "
                "RandomSampler in rpn_head"
            )
        return losses[rows].argsort(descending=True, stable=True)
