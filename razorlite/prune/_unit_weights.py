"""The weights, and their gradients, that each unit of a channel group holds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from razorlite.trace import ChannelGroup, Member, Side, weight_of

SidesOf = Literal["in", "out", "both"]


@dataclass(frozen=True)
class Counted:
    """Which weights count.

    Attributes:
        sides: those that make a channel, those that read it, or both.
        norms: the scales of norms, too.
        depthwise: those of depth-wise convolutions, too.
    """

    sides: SidesOf = "both"
    norms: bool = True
    depthwise: bool = True

    def weight(self, model: nn.Module, member: Member) -> Tensor | None:
        """Return the weight of a member, of any shape; None if it does not count."""
        layer = model.get_submodule(member.module)
        weight = weight_of(layer)
        if member.bare or weight is None:
            return None
        if weight.dim() < 2:
            return weight if self.norms and is_scale(weight, member) else None
        one_side = self.sides in (member.side, "both")
        return weight if one_side and (self.depthwise or not is_depthwise(layer)) else None

    def rows(self, model: nn.Module, member: Member) -> Tensor | None:
        """Return the (channels, weights) of one side of a layer; None if they do not count."""
        weight = self.weight(model, member)
        return None if weight is None else rows_of(model, member, weight.detach())


def rows_of(model: nn.Module, member: Member, weight: Tensor) -> Tensor:
    """Return a weight, or anything of its shape, as the (channels, weights) of a member."""
    if weight.dim() < 2:
        return weight[:, None]
    return by_channel(model.get_submodule(member.module), member.side, weight)


def sum_over_units(group: ChannelGroup, values: Callable[[Member], Tensor | None]) -> Tensor:
    """Return the (size,) float64 sums of the (channels,) values of all members that have some."""
    total = torch.zeros(group.size, dtype=torch.float64)
    for member in group.members:
        value, index = values(member), torch.tensor(member.index)
        if value is not None:
            value = value.detach().double().cpu()
            total.index_add_(0, index[index >= 0], value[index >= 0])
    return total


def by_channel(layer: Any, side: Side, weight: Tensor) -> Tensor:
    """Return a weight of two or more dimensions as (channels, weights) of one side of its layer."""
    groups, transposed = getattr(layer, "groups", 1), getattr(layer, "transposed", False)
    blocks = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    first = (side == "in") == transposed
    return (blocks if first else blocks.transpose(1, 2)).flatten(2).flatten(0, 1)


def norm_scale(model: nn.Module, member: Member) -> Tensor | None:
    """Return the absolute (channels,) scales of a norm; None of other members."""
    weight = getattr(model.get_submodule(member.module), "weight", None)
    if weight is None or member.bare or not is_scale(weight, member):
        return None
    absolute: Tensor = weight.detach().abs()
    return absolute


def is_depthwise(layer: nn.Module) -> bool:
    """Return whether each output channel of a convolution reads one channel alone."""
    groups = getattr(layer, "groups", 1)
    return groups > 1 and groups == getattr(layer, "in_channels", 0)


def is_scale(weight: Tensor, member: Member) -> bool:
    """Return whether a (channels,) weight has a scale for each channel of a member."""
    return member.side == "out" and weight.dim() == 1 and len(weight) == len(member.index)
