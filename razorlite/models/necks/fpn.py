"""Feature pyramid network."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, Whole, Widths
from razorlite.core.registry import register
from razorlite.models.layers import ConvModule, Norm
from razorlite.models.necks.checks import check_maps

ExtraConvs = Literal[False, "on_input", "on_lateral", "on_output"]


@register()
class FPN(nn.Module):
    """Coarse maps are added to finer ones, top down; extra coarse levels come on top.

    https://arxiv.org/abs/1612.03144
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
        """Build the convolutions.

        Args:
            in_channels: channels of every map of the backbone.
            out_channels: channels of every output.
            num_outs: number of outputs.
            start_level: first map of the backbone that is used.
            add_extra_convs: what the outputs above the backbone's are convolved from: its last
                map, the last lateral or the last output; False pools the last output instead.
            relu_before_extra_convs: rectify in front of extra convolutions but the first.
            norm: kind of normalisation after each convolution.
            norm_on_lateral: whether the lateral convolutions have it, too.

        Raises:
            ConfigError: there are fewer outputs than used maps, or no map is used.
        """
        super().__init__()
        used = list(in_channels[start_level:])
        if not used or num_outs < len(used):
            raise ConfigError(
                f"FPN.num_outs must be at least the {len(used)} maps used from start_level "
                f"{start_level} of {len(in_channels)}, got {num_outs}"
            )
        self.start_level, self.num_outs = start_level, num_outs
        self.add_extra_convs = add_extra_convs
        self.relu_before_extra_convs = relu_before_extra_convs
        self.out_channels = out_channels
        lateral_norm = norm if norm_on_lateral else None
        self.lateral_convs = nn.ModuleList(
            ConvModule(c, out_channels, 1, norm=lateral_norm, activation=None) for c in used
        )
        self.fpn_convs = nn.ModuleList(_output(out_channels, out_channels, 1, norm) for _ in used)
        for i in range(num_outs - len(used) if add_extra_convs else 0):
            source = used[-1] if i == 0 and add_extra_convs == "on_input" else out_channels
            self.fpn_convs.append(_output(source, out_channels, 2, norm))
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
        outs = [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=False)]
        return tuple(self.extend(outs, used[-1], laterals[-1]))

    def init_weights(self) -> None:
        """Draw all weights anew: Xavier's uniform distribution, biases 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def top_down(self, laterals: list[Tensor]) -> list[Tensor]:
        """Return (N, C, H_i, W_i) laterals, every coarser one added to the next finer one."""
        merged = [laterals[-1]]
        for finer in reversed(laterals[:-1]):
            merged.append(finer + F.interpolate(merged[-1], size=finer.shape[-2:]))
        return merged[::-1]

    def extend(self, outs: list[Tensor], last_input: Tensor, last_lateral: Tensor) -> list[Tensor]:
        """Return the (N, C, H_i, W_i) outputs with the extra levels behind them."""
        extra = self.num_outs - len(outs)
        if not self.add_extra_convs:
            for _ in range(extra):
                outs.append(F.max_pool2d(outs[-1], 1, stride=2))
            return outs
        sources = {"on_input": last_input, "on_lateral": last_lateral, "on_output": outs[-1]}
        x = sources[self.add_extra_convs]
        for i, conv in enumerate(list(self.fpn_convs)[len(outs) :]):
            x = conv(F.relu(x) if i > 0 and self.relu_before_extra_convs else x)
            outs.append(x)
        return outs


def _output(in_channels: int, out_channels: int, stride: int, norm: Norm | None) -> ConvModule:
    return ConvModule(
        in_channels, out_channels, 3, stride=stride, padding=1, norm=norm, activation=None
    )
