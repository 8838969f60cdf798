"""How much each unit of a channel group matters."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Seed
from razorlite.core.registry import register
from razorlite.trace import ChannelGroup, Member, Side, weight_of

Scale = Literal["mean", "max", "none"]


class Importance:
    """Base of importance measures: `unit_scores` of a group, then brought to a common scale."""

    def __init__(self, *, scale: Scale = "mean") -> None:
        """Keep the settings.

        Args:
            scale: what the scores of each group are divided by, so that groups can be compared:
                their mean, their maximum, or nothing.
        """
        if scale not in ("mean", "max", "none"):
            raise ConfigError(f"importance scale must be mean, max or none, got {scale!r}")
        self.scale = scale

    def __call__(self, model: nn.Module, groups: Sequence[ChannelGroup]) -> dict[str, Tensor]:
        """Return for each group's name its (size,) float64 scores; higher matters more.

        The blocks of a group compete each on a scale of its own.
        """
        return {group.name: self._group_scores(model, group) for group in groups}

    def _group_scores(self, model: nn.Module, group: ChannelGroup) -> Tensor:
        scores, blocks = self.scaled(self.unit_scores(model, group)), group.blocks
        for block in blocks if len(blocks) > 1 else ():
            units = list(block.units)
            scores[units] = self.scaled(scores[units])
        return scores

    def unit_scores(self, model: nn.Module, group: ChannelGroup) -> Tensor:
        """Return the (size,) scores of one group, on its own scale."""
        raise NotImplementedError

    def scaled(self, scores: Tensor) -> Tensor:
        """Return (C,) float64 scores of channels that compete as one, on the common scale."""
        scores = scores.double().cpu()
        if self.scale == "none":
            return scores
        whole = scores.mean() if self.scale == "mean" else scores.max()
        return scores / whole if whole > 0 else scores


class WeightImportance(Importance):
    """Base of measures of convolution and linear weights, summed over all that a unit holds."""

    def __init__(
        self, *, scale: Scale = "mean", sides: Literal["in", "out", "both"] = "out"
    ) -> None:
        """Keep the settings.

        Args:
            scale: as for `Importance`.
            sides: whether the weights that make a channel count, those that read it, or both.
        """
        super().__init__(scale=scale)
        self.sides: tuple[str, ...] = ("in", "out") if sides == "both" else (sides,)

    def unit_scores(self, model: nn.Module, group: ChannelGroup) -> Tensor:
        """Return the (size,) sums over the members of the group."""
        members = [m for m in group.members if m.side in self.sides]
        total = _sum_over_units(group, members, lambda m: self._weights(model, m))
        return self.finish(total)

    def _weights(self, model: nn.Module, member: Member) -> Tensor | None:
        if member.bare:
            return None
        weight = _by_channel(model.get_submodule(member.module), member.side)
        return None if weight is None else self.measure(weight.double()).sum(1)

    def measure(self, weight: Tensor) -> Tensor:
        """Return the contribution of each weight, in the weight's shape."""
        raise NotImplementedError

    def finish(self, total: Tensor) -> Tensor:
        """Return (C,) scores from (C,) sums."""
        return total


@register()
class L1Importance(WeightImportance):
    """Sum of absolute weights. https://arxiv.org/abs/1608.08710."""

    def measure(self, weight: Tensor) -> Tensor:
        """Return absolute weights, in the weight's shape."""
        return weight.abs()


@register()
class L2Importance(WeightImportance):
    """Euclidean norm of the weights. https://arxiv.org/abs/1808.06866."""

    def measure(self, weight: Tensor) -> Tensor:
        """Return squared weights, in the weight's shape."""
        return weight.square()

    def finish(self, total: Tensor) -> Tensor:
        """Return the roots of the (C,) sums."""
        return total.sqrt()


@register()
class BNScaleImportance(Importance):
    """Sum of the norms' absolute scales; L1 of the weights for groups that no norm passes.

    https://arxiv.org/abs/1708.06519.
    """

    def unit_scores(self, model: nn.Module, group: ChannelGroup) -> Tensor:
        """Return the (size,) sums over the norms of the group."""
        norms = [m for m in group.members if _norm_scale(model, m) is not None]
        if not norms:
            return L1Importance().unit_scores(model, group)
        return _sum_over_units(group, norms, lambda m: _norm_scale(model, m))


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


def _sum_over_units(
    group: ChannelGroup, members: list[Member], values: Callable[[Member], Tensor | None]
) -> Tensor:
    """Return the (size,) sums of the members' (channels,) values."""
    total = torch.zeros(group.size, dtype=torch.float64)
    for member in members:
        value, index = values(member), torch.tensor(member.index)
        if value is not None:
            value = value.detach().double().cpu()
            total.index_add_(0, index[index >= 0], value[index >= 0])
    return total


def _by_channel(layer: Any, side: Side) -> Tensor | None:
    """Return the (channels, weights) of one side of a convolution or linear layer."""
    weight = weight_of(layer)
    if weight is None or weight.dim() < 2:
        return None
    groups, transposed = getattr(layer, "groups", 1), getattr(layer, "transposed", False)
    blocks = weight.detach().reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    first = (side == "in") == transposed
    rows: Tensor | None = (blocks if first else blocks.transpose(1, 2)).flatten(2).flatten(0, 1)
    return rows


def _norm_scale(model: nn.Module, member: Member) -> Tensor | None:
    weight = getattr(model.get_submodule(member.module), "weight", None)
    if member.side == "in" or member.bare or weight is None or weight.dim() != 1:
        return None
    return weight.detach().abs() if len(weight) == len(member.index) else None
