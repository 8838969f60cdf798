"""Stacks of convolutions between a pyramid's levels and a head's output layers."""

from collections.abc import Iterator

from torch import Tensor, nn

from razorlite.models.heads.dense import Maps
from razorlite.models.layers import Activation, ConvModule, Norm


class TwoTowers(nn.Module):
    """A part of heads: one tower for classes and one for boxes, over every level.

    Sub-modules: `cls_convs` and `reg_convs`.
    """

    cls_convs: nn.Sequential | nn.ModuleList
    reg_convs: nn.Sequential | nn.ModuleList

    def build_towers(
        self,
        in_channels: int,
        channels: int,
        count: int,
        norm: Norm | None,
        *,
        bias: bool | None = None,
        levels: int | None = None,
    ) -> int:
        """Build both towers, see `towers`; return how many channels they give."""
        shape = (in_channels, channels, count, norm, bias, levels)
        self.cls_convs, self.reg_convs = towers(*shape), towers(*shape)
        return channels if count else in_channels

    def through_towers(self, maps: Maps) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield what the towers make of each level, for classes and for boxes."""
        for level, x in enumerate(maps):
            yield tower_of(self.cls_convs, level)(x), tower_of(self.reg_convs, level)(x)


def tower(
    in_channels: int,
    channels: int,
    count: int,
    norm: Norm | None,
    bias: bool | None = None,
    activation: Activation = "ReLU",
) -> nn.Sequential:
    """Return `count` 3 x 3 convolutions with norm and activation."""
    inputs = [in_channels, *[channels] * (count - 1)][:count]
    return nn.Sequential(
        *[
            ConvModule(c, channels, 3, padding=1, norm=norm, bias=bias, activation=activation)
            for c in inputs
        ]
    )


def towers(
    in_channels: int,
    channels: int,
    count: int,
    norm: Norm | None,
    bias: bool | None = None,
    levels: int | None = None,
    activation: Activation = "ReLU",
) -> nn.Sequential | nn.ModuleList:
    """Return a tower for all levels, or one for each of `levels` that share the convolutions.

    Norms that are not shared: RTMDet, https://arxiv.org/abs/2212.07784, section 3.4.
    """
    shape = (in_channels, channels, count, norm, bias, activation)
    first = tower(*shape)
    if levels is None:
        return first
    others = [tower(*shape) for _ in range(levels - 1)]
    for other in others:
        for mine, shared in zip(other, first, strict=True):
            mine.conv = shared.conv
    return nn.ModuleList([first, *others])


def tower_of(built: nn.Sequential | nn.ModuleList, level: int) -> nn.Module:
    """Return a level's tower of what `towers` built."""
    return built[level] if isinstance(built, nn.ModuleList) else built
