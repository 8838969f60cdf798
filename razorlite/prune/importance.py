"""How much each unit of a channel group matters."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Seed
from razorlite.core.registry import register
from razorlite.prune._unit_weights import Counted, SidesOf, norm_scale, sum_over_units
from razorlite.trace import ChannelGroup, Member

Scale = Literal["mean", "max", "lamp", "none"]


class Importance:
    """Base of importance measures: `unit_scores` of a group, then brought to a common scale."""

    def __init__(self, *, scale: Scale = "mean") -> None:
        """Keep the settings.

        Args:
            scale: what each score of a group is divided by, so that groups can be compared: the
                group's mean, its maximum, "lamp" for the sum of all that are at least as large
                (https://arxiv.org/abs/2010.07611, eq. 4, of scores in the place of squared
                weights), or nothing.
        """
        if scale not in get_args(Scale):
            raise ConfigError(f"importance scale must be mean, max, lamp or none, got {scale!r}")
        self.scale = scale

    def __call__(self, model: nn.Module, groups: Sequence[ChannelGroup]) -> dict[str, Tensor]:
        """Return for each group's name its (size,) float64 scores; higher matters more.

        The blocks of a group compete each on a scale of its own.
        """
        return {group.name: self._group_scores(model, group) for group in groups}

    def _group_scores(self, model: nn.Module, group: ChannelGroup) -> Tensor:
        found, blocks = self.unit_scores(model, group), group.blocks
        scores = self.scaled(found)
        for block in blocks if len(blocks) > 1 else ():
            units = list(block.units)
            scores[units] = self.scaled(found[units])
        return scores

    def unit_scores(self, model: nn.Module, group: ChannelGroup) -> Tensor:
        """Return the (size,) scores of one group, on its own scale."""
        raise NotImplementedError

    def scaled(self, scores: Tensor) -> Tensor:
        """Return (C,) float64 scores of channels that compete as one, on the common scale."""
        scores = scores.double().cpu()
        if self.scale == "none":
            return scores
        if self.scale == "lamp":
            return _adaptive(scores)
        whole = scores.mean() if self.scale == "mean" else scores.max()
        return scores / whole if 0 < whole < math.inf else scores


def _adaptive(scores: Tensor) -> Tensor:
    """Return (C,) scores over the sum of all that are at least as large; equal ones in order."""
    order = scores.argsort(descending=True, stable=True)
    sums = scores[order].cumsum(0)
    if not 0 < sums[-1] < math.inf:
        return scores
    shares = torch.empty_like(scores)
    shares[order] = scores[order] / sums
    return shares


class WeightImportance(Importance):
    """Base of measures of convolution and linear weights, summed over all that a unit holds."""

    def __init__(
        self,
        *,
        scale: Scale = "mean",
        sides: SidesOf = "out",
        norms: bool = False,
        depthwise: bool = True,
    ) -> None:
        """Keep the settings.

        Args:
            scale: as for `Importance`.
            sides: whether the weights that make a channel count, those that read it, or both.
            norms: whether the scales of norms count, too.
            depthwise: whether the weights of depth-wise convolutions count.
        """
        super().__init__(scale=scale)
        self.sides: tuple[str, ...] = ("in", "out") if sides == "both" else (sides,)
        self.counted = Counted(sides=sides, norms=norms, depthwise=depthwise)

    def unit_scores(self, model: nn.Module, group: ChannelGroup) -> Tensor:
        """Return the (size,) sums over the members of the group."""
        return self.finish(sum_over_units(group, lambda member: self._of_member(model, member)))

    def _of_member(self, model: nn.Module, member: Member) -> Tensor | None:
        weights = self.counted.rows(model, member)
        return None if weights is None else self.measure(weights.double())

    def measure(self, weights: Tensor) -> Tensor:
        """Return (channels,) values from the (channels, weights) of one layer's side."""
        raise NotImplementedError

    def finish(self, total: Tensor) -> Tensor:
        """Return (C,) scores from (C,) sums."""
        return total


@register()
class L1Importance(WeightImportance):
    """Sum of absolute weights. https://arxiv.org/abs/1608.08710."""

    def measure(self, weights: Tensor) -> Tensor:
        """Return (channels,) sums of the absolute (channels, weights)."""
        return weights.abs().sum(1)


@register()
class L2Importance(WeightImportance):
    """Euclidean norm of the weights. https://arxiv.org/abs/1808.06866."""

    def measure(self, weights: Tensor) -> Tensor:
        """Return (channels,) sums of the squared (channels, weights)."""
        return weights.square().sum(1)

    def finish(self, total: Tensor) -> Tensor:
        """Return the roots of the (C,) sums."""
        return total.sqrt()


@register()
class FPGMImportance(WeightImportance):
    """Distance of a filter from all others of its layer: what lies amid them, they can replace.

    Of (C, weights) filters F the score of the i-th is sum over j of ||F_i - F_j||; the least is
    nearest to their geometric median. https://arxiv.org/abs/1811.00250, eq. 6.
    """

    def measure(self, weights: Tensor) -> Tensor:
        """Return (channels,) sums of distances to all (channels, weights)."""
        return torch.cdist(weights, weights).sum(1)


@register()
class BNScaleImportance(Importance):
    """Sum of the norms' absolute scales; L1 of the weights for groups that no norm passes.

    https://arxiv.org/abs/1708.06519.
    """

    def unit_scores(self, model: nn.Module, group: ChannelGroup) -> Tensor:
        """Return the (size,) sums over the norms of the group."""
        if all(norm_scale(model, member) is None for member in group.members):
            return L1Importance().unit_scores(model, group)
        return sum_over_units(group, lambda member: norm_scale(model, member))


@register()
class RandomImportance(Importance):
    """Random scores: the control for every other measure."""

    def __init__(self, *, seed: Seed = 0) -> None:
        """Keep the seed; the same seed gives the same scores for a group."""
        super().__init__(scale="none")
        self.seed = seed

    def unit_scores(self, model: nn.Module, group: ChannelGroup) -> Tensor:
        """Return (size,) scores in [0, 1)."""
        mixed = sum(i * ord(c) for i, c in enumerate(group.name, 1))
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + mixed)
        return torch.rand(group.size, generator=generator)
