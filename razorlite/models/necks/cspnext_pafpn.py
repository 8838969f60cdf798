"""The neck of RTMDet."""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, Positive, Whole, Widths
from razorlite.core.registry import register
from razorlite.models.csp import CSPLayer
from razorlite.models.layers import Activation, ConvModule, Norm


@register()
class CSPNeXtPAFPN(nn.Module):
    """Maps are joined top down, then bottom up, each time through a `CSPLayer`.

    RTMDet, https://arxiv.org/abs/2212.07784, section 3.2; path aggregation: PANet,
    https://arxiv.org/abs/1803.01534.
    """

    def __init__(
        self,
        *,
        in_channels: Widths,
        out_channels: Count,
        num_csp_blocks: Whole = 3,
        expand_ratio: Positive = 0.5,
        norm: Norm = "BN",
        activation: Activation = "SiLU",
    ) -> None:
        """Build the layers.

        Args:
            in_channels: channels of every map of the backbone, finest first.
            out_channels: channels of every output.
            num_csp_blocks: blocks in each `CSPLayer`.
            expand_ratio: channels of each way inside a `CSPLayer`, as a part of its output's.
            norm: kind of normalisation.
            activation: kind of activation.

        Raises:
            ConfigError: there are no maps.
        """
        super().__init__()
        if not in_channels:
            raise ConfigError("CSPNeXtPAFPN.in_channels wants the channels of at least one map")
        self.out_channels = out_channels
        kinds: dict[str, Any] = {"norm": norm, "activation": activation}
        pairs = list(pairwise(in_channels))  # finer, coarser

        def joined(finer: int, out: int) -> CSPLayer:
            return CSPLayer(
                2 * finer,
                out,
                num_blocks=num_csp_blocks,
                expand_ratio=expand_ratio,
                add_identity=False,
                **kinds,
            )

        self.reduce_layers = nn.ModuleList(ConvModule(b, a, 1, **kinds) for a, b in pairs[::-1])
        self.top_down_blocks = nn.ModuleList(joined(a, a) for a, _ in pairs[::-1])
        self.downsamples = nn.ModuleList(
            ConvModule(a, a, 3, stride=2, padding=1, **kinds) for a, _ in pairs
        )
        self.bottom_up_blocks = nn.ModuleList(joined(a, b) for a, b in pairs)
        self.out_convs = nn.ModuleList(
            ConvModule(c, out_channels, 3, padding=1, **kinds) for c in in_channels
        )

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Map a tuple of (N, C_i, H_i, W_i) to as many (N, out_channels, H_i, W_i)."""
        reduced = self.top_down(maps)
        outs = [reduced[0]]
        for coarser, down, block in zip(
            reduced[1:], self.downsamples, self.bottom_up_blocks, strict=True
        ):
            outs.append(block(torch.cat((down(outs[-1]), coarser), 1)))
        return tuple(conv(x) for conv, x in zip(self.out_convs, outs, strict=True))

    def top_down(self, maps: tuple[Tensor, ...]) -> list[Tensor]:
        """Return (N, C_i, H_i, W_i) maps, every coarser one joined to the next finer, finest first.

        All but the first have their channels reduced to those of the next finer map.
        """
        merged = [maps[-1]]
        for i, (reduce, block) in enumerate(
            zip(self.reduce_layers, self.top_down_blocks, strict=True)
        ):
            finer = maps[len(self.reduce_layers) - 1 - i]
            merged[-1] = reduce(merged[-1])
            coarse = F.interpolate(merged[-1], size=finer.shape[-2:])
            merged.append(block(torch.cat((coarse, finer), 1)))
        return merged[::-1]
