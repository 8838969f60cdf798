"""Path aggregation on top of a feature pyramid."""

from torch import Tensor, nn

from razorlite.core.ranges import Count, Whole, Widths
from razorlite.core.registry import register
from razorlite.models.layers import ConvModule, Norm
from razorlite.models.necks.checks import check_maps
from razorlite.models.necks.fpn import FPN, ExtraConvs


@register()
class PAFPN(FPN):
    """A feature pyramid whose outputs are added once more, bottom up.

    PANet, https://arxiv.org/abs/1803.01534.
    """

    def __init__(
        self,
        *,
        in_channels: Widths,
        out_channels: Count,
        num_outs: Count,
        start_level: Whole = 0,
        add_extra_convs: ExtraConvs = False,
        relu_before_extra_convs: bool = False,
        norm: Norm | None = None,
        norm_on_lateral: bool = True,
    ) -> None:
        """Build the convolutions; see `FPN` for the arguments and errors."""
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            num_outs=num_outs,
            start_level=start_level,
            add_extra_convs=add_extra_convs,
            relu_before_extra_convs=relu_before_extra_convs,
            norm=norm,
            norm_on_lateral=norm_on_lateral,
        )
        steps = len(self.lateral_convs) - 1
        self.downsample_convs = nn.ModuleList(_conv(out_channels, 2, norm) for _ in range(steps))
        self.pafpn_convs = nn.ModuleList(_conv(out_channels, 1, norm) for _ in range(steps))
        self.init_weights()

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Map a tuple of (N, C_i, H_i, W_i) to `num_outs` of (N, out_channels, H, W).

        Raises:
            ConfigError: the maps are not those of `in_channels`.
        """
        check_maps(self, maps, list(self.lateral_convs), self.start_level)
        used = maps[self.start_level :]
        laterals = self.top_down(
            [conv(x) for conv, x in zip(self.lateral_convs, used, strict=True)]
        )
        inner = [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=False)]
        for i, conv in enumerate(self.downsample_convs):
            inner[i + 1] = inner[i + 1] + conv(inner[i])
        rest = [conv(x) for conv, x in zip(self.pafpn_convs, inner[1:], strict=True)]
        return tuple(self.extend([inner[0], *rest], used[-1], laterals[-1]))


def _conv(channels: int, stride: int, norm: Norm | None) -> ConvModule:
    return ConvModule(channels, channels, 3, stride=stride, padding=1, norm=norm, activation=None)
