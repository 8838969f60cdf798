"""Blocks of CSPNeXt, which its backbone and its neck share.

RTMDet, https://arxiv.org/abs/2212.07784, section 3.2. Sub-modules have OpenMMLab's names.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.models.layers import Activation, ConvModule, Norm


class ChannelAttention(nn.Module):
    """Every channel times a factor in [0, 1] that the means of all channels decide."""

    def __init__(self, channels: int) -> None:
        """Build the layer that maps the means to factors."""
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the shape of x, (N, channels, H, W)."""
        return x * F.hardsigmoid(self.fc(F.adaptive_avg_pool2d(x, 1)))


class DepthwiseSeparable(nn.Module):
    """A convolution of each channel alone, then one of 1 x 1; each with norm and activation."""

    def __init__(
        self, channels: int, kernel_size: int, *, norm: Norm, activation: Activation
    ) -> None:
        """Build the two convolutions."""
        super().__init__()
        self.depthwise_conv = ConvModule(
            channels,
            channels,
            kernel_size,
            padding=kernel_size // 2,
            groups=channels,
            norm=norm,
            activation=activation,
        )
        self.pointwise_conv = ConvModule(channels, channels, 1, norm=norm, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the shape of x, (N, channels, H, W)."""
        out: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return out


class CSPNeXtBlock(nn.Module):
    """A 3 x 3 convolution and a large depth-wise one, with or without a shortcut."""

    def __init__(
        self,
        channels: int,
        *,
        add_identity: bool,
        kernel_size: int = 5,
        norm: Norm = "BN",
        activation: Activation = "SiLU",
    ) -> None:
        """Build the layers.

        Args:
            channels: of input and output.
            add_identity: whether the input is added to the output.
            kernel_size: odd side of the depth-wise kernel.
            norm: kind of normalisation.
            activation: kind of activation.
        """
        super().__init__()
        kinds: dict[str, Any] = {"norm": norm, "activation": activation}
        self.conv1 = ConvModule(channels, channels, 3, padding=1, **kinds)
        self.conv2 = DepthwiseSeparable(channels, kernel_size, **kinds)
        self.add_identity = add_identity

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the shape of x, (N, channels, H, W)."""
        out = self.conv2(self.conv1(x))
        result: Tensor = out + x if self.add_identity else out
        return result


class CSPLayer(nn.Module):
    """Half of the channels go through blocks, half past them; both are joined again.

    CSPNet, https://arxiv.org/abs/1911.11929.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        num_blocks: int = 1,
        expand_ratio: float = 0.5,
        add_identity: bool = True,
        channel_attention: bool = False,
        norm: Norm = "BN",
        activation: Activation = "SiLU",
    ) -> None:
        """Build the layers.

        Args:
            in_channels: channels of the input.
            out_channels: channels of the output.
            num_blocks: blocks in a row.
            expand_ratio: channels of each of the two ways, as a part of the output's.
            add_identity: whether blocks have a shortcut.
            channel_attention: whether the joined ways are weighted by `ChannelAttention`.
            norm: kind of normalisation.
            activation: kind of activation.
        """
        super().__init__()
        middle = int(out_channels * expand_ratio)
        kinds: dict[str, Any] = {"norm": norm, "activation": activation}
        self.main_conv = ConvModule(in_channels, middle, 1, **kinds)
        self.short_conv = ConvModule(in_channels, middle, 1, **kinds)
        self.final_conv = ConvModule(2 * middle, out_channels, 1, **kinds)
        self.blocks = nn.Sequential(
            *[CSPNeXtBlock(middle, add_identity=add_identity, **kinds) for _ in range(num_blocks)]
        )
        self.attention = ChannelAttention(2 * middle) if channel_attention else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W)."""
        joined = torch.cat((self.blocks(self.main_conv(x)), self.short_conv(x)), 1)
        out: Tensor = self.final_conv(joined if self.attention is None else self.attention(joined))
        return out


class PyramidPooling(nn.Module):
    """The map beside its maxima over several windows, joined by a convolution.

    SPP, https://arxiv.org/abs/1406.4729, in the form of YOLOv4.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_sizes: tuple[int, ...] = (5, 9, 13),
        norm: Norm = "BN",
        activation: Activation = "SiLU",
    ) -> None:
        """Build the layers.

        Args:
            channels: of input and output.
            kernel_sizes: odd sides of the windows.
            norm: kind of normalisation.
            activation: kind of activation.
        """
        super().__init__()
        kinds: dict[str, Any] = {"norm": norm, "activation": activation}
        middle = channels // 2
        self.kernel_sizes = tuple(kernel_sizes)
        self.conv1 = ConvModule(channels, middle, 1, **kinds)
        self.conv2 = ConvModule(middle * (1 + len(self.kernel_sizes)), channels, 1, **kinds)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the shape of x, (N, channels, H, W)."""
        x = self.conv1(x)
        pooled = [F.max_pool2d(x, size, stride=1, padding=size // 2) for size in self.kernel_sizes]
        out: Tensor = self.conv2(torch.cat((x, *pooled), 1))
        return out
