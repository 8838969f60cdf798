"""Operations to choose from: the blocks of the SPOS and ProxylessNAS spaces.

Each is built with `in_channels`, `out_channels` and `stride` by the place it is put in, and with
its other arguments by the configuration. Channels are split with `chunk`, joined with `cat` and
mixed by `shuffle_channels` (unflatten, transpose, flatten), which tools that follow channels read.
"""

import torch
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, Kernel, Positive
from razorlite.core.registry import register
from razorlite.models.backbones.shufflenet import shuffle_channels
from razorlite.models.layers import Activation, ConvModule, SqueezeExcitation


class TwoBranches(nn.Module):
    """Half of the channels pass by (or shrink, with stride 2), the others go through `branch2`.

    Attributes:
        width: channels inside of `branch2`, as a factor of half of the outputs.
        in_branch2: channels that `branch2` gets.
        out_branch2: channels that it gives.
    """

    branch2: nn.Sequential

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        kernel_size: int,
        width: float,
        keep_inputs: bool,
    ) -> None:
        super().__init__()
        _check_widths(type(self).__name__, in_channels, out_channels, stride)
        self.stride, self.width, self._half = stride, width, out_channels // 2
        passed = in_channels if keep_inputs and stride > 1 else self._half
        self.in_branch2 = in_channels if stride > 1 else self._half
        self.out_branch2 = out_channels - passed
        if self.out_branch2 < 1 or self.inner_channels(width) < 1:
            raise ConfigError(
                f"{type(self).__name__} has no channels left in its branch: {in_channels} to "
                f"{out_channels} channels at width {width:g}"
            )
        if stride > 1:
            self.branch1 = nn.Sequential(
                _depthwise(in_channels, kernel_size, stride),
                ConvModule(in_channels, passed, 1, norm="BN"),
            )

    def inner_channels(self, width: float) -> int:
        """Return the channels inside of `branch2` at a width."""
        return int(self._half * width)

    def inner_layers(self) -> dict[str, tuple[str, ...]]:
        """Return the layers that have inner channels, and on which sides."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        if self.stride > 1:
            passed = self.branch1(x)
        else:
            passed, x = x.chunk(2, dim=1)
        return shuffle_channels(torch.cat((passed, self.branch2(x)), dim=1))


@register()
class ShuffleBlock(TwoBranches):
    """ShuffleNetV2's unit with a kernel of any odd size.

    Single Path One-Shot NAS, https://arxiv.org/abs/1904.00420, fig. 4.
    """

    def __init__(
        self,
        *,
        in_channels: Count,
        out_channels: Count,
        stride: Count = 1,
        kernel_size: Kernel = 3,
        width: Positive = 1.0,
        keep_inputs: bool = False,
    ) -> None:
        """Build the block.

        Args:
            in_channels: channels of the input; equal to `out_channels` with stride 1.
            out_channels: channels of the output, even.
            stride: 1, or 2 to halve the map.
            kernel_size: side of the depth-wise kernels, odd.
            width: channels inside of the branch, as a factor of half of the outputs.
            keep_inputs: with stride 2, as many channels pass by as come in, and the branch makes
                the rest, as in the code of SPOS's authors; else half of the outputs.

        Raises:
            ConfigError: channels, stride or kernel do not fit.
        """
        _check_kernel("ShuffleBlock", kernel_size)
        super().__init__(in_channels, out_channels, stride, kernel_size, width, keep_inputs)
        inner = self.inner_channels(width)
        self.branch2 = nn.Sequential(
            ConvModule(self.in_branch2, inner, 1, norm="BN"),
            _depthwise(inner, kernel_size, stride),
            ConvModule(inner, self.out_branch2, 1, norm="BN"),
        )

    def inner_layers(self) -> dict[str, tuple[str, ...]]:
        """Return the layers that have inner channels, and on which sides."""
        return {
            "branch2.0.conv": ("outputs",),
            "branch2.0.bn": ("outputs",),
            "branch2.1.conv": ("outputs", "inputs"),
            "branch2.1.bn": ("outputs",),
            "branch2.2.conv": ("inputs",),
        }


@register()
class ShuffleXception(TwoBranches):
    """ShuffleNetV2's unit with three 3 x 3 separable convolutions in the branch.

    Single Path One-Shot NAS, https://arxiv.org/abs/1904.00420, fig. 4.
    """

    def __init__(
        self,
        *,
        in_channels: Count,
        out_channels: Count,
        stride: Count = 1,
        width: Positive = 1.0,
        keep_inputs: bool = False,
    ) -> None:
        """Build the block.

        Args:
            in_channels: channels of the input; equal to `out_channels` with stride 1.
            out_channels: channels of the output, even.
            stride: 1, or 2 to halve the map.
            width: channels inside of the branch, as a factor of half of the outputs.
            keep_inputs: as for `ShuffleBlock`.

        Raises:
            ConfigError: channels or stride do not fit.
        """
        super().__init__(in_channels, out_channels, stride, 3, width, keep_inputs)
        inner = self.inner_channels(width)
        self.branch2 = nn.Sequential(
            _Separable(self.in_branch2, inner, stride),
            _Separable(inner, inner, 1),
            _Separable(inner, self.out_branch2, 1),
        )

    def inner_layers(self) -> dict[str, tuple[str, ...]]:
        """Return the layers that have inner channels, and on which sides."""
        made = {f"branch2.{i}.pointwise_conv.bn": ("outputs",) for i in (0, 1)}
        read = {f"branch2.{i}.depthwise_conv.conv": ("outputs", "inputs") for i in (1, 2)}
        normed = {f"branch2.{i}.depthwise_conv.bn": ("outputs",) for i in (1, 2)}
        return {
            **made,
            **read,
            **normed,
            "branch2.0.pointwise_conv.conv": ("outputs",),
            "branch2.1.pointwise_conv.conv": ("outputs", "inputs"),
            "branch2.2.pointwise_conv.conv": ("inputs",),
        }


@register()
class MBBlock(nn.Module):
    """MobileNetV2's inverted residual: expand, depth-wise, project; a shortcut where it fits.

    https://arxiv.org/abs/1801.04381, table 1; with the inner channels weighted, MobileNetV3,
    https://arxiv.org/abs/1905.02244.
    """

    def __init__(
        self,
        *,
        in_channels: Count,
        out_channels: Count,
        stride: Count = 1,
        kernel_size: Kernel = 3,
        expand_ratio: Count = 6,
        activation: Activation = "ReLU",
        squeeze: bool = False,
    ) -> None:
        """Build the block.

        Args:
            in_channels: channels of the input.
            out_channels: channels of the output.
            stride: 1, or 2 to halve the map.
            kernel_size: side of the depth-wise kernel, odd.
            expand_ratio: inner channels per input channel; 1 leaves the expansion out.
            activation: after the expansion and the depth-wise convolution.
            squeeze: whether the inner channels are weighted by a `SqueezeExcitation`.

        Raises:
            ConfigError: the kernel or the ratio does not fit.
        """
        super().__init__()
        _check_kernel("MBBlock", kernel_size)
        if expand_ratio < 1:
            raise ConfigError(f"MBBlock.expand_ratio must be at least 1, got {expand_ratio}")
        inner = in_channels * expand_ratio
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.expand_conv: ConvModule | None = None
        if expand_ratio > 1:
            self.expand_conv = ConvModule(in_channels, inner, 1, norm="BN", activation=activation)
        self.depthwise_conv = _depthwise(inner, kernel_size, stride, activation)
        self.squeeze = SqueezeExcitation(inner) if squeeze else None
        self.linear_conv = ConvModule(inner, out_channels, 1, norm="BN", activation=None)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        y = x if self.expand_conv is None else self.expand_conv(x)
        y = self.depthwise_conv(y)
        y = self.linear_conv(y if self.squeeze is None else self.squeeze(y))
        out: Tensor = x + y if self.has_shortcut else y
        return out


@register()
class Skip(nn.Module):
    """Leaves a block out: the identity."""

    def __init__(self, *, in_channels: Count, out_channels: Count, stride: Count = 1) -> None:
        """Check that the place can do without a block.

        Args:
            in_channels: channels of the input.
            out_channels: channels of the output; the same number.
            stride: 1.

        Raises:
            ConfigError: the place changes the channels or the size of the map.
        """
        super().__init__()
        if stride != 1 or in_channels != out_channels:
            raise ConfigError(
                f"Skip needs stride 1 and equal channels, got stride {stride} and {in_channels} "
                f"to {out_channels}; give this group's mapping no Skip"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return x, (N, C, H, W)."""
        return x


class _Separable(nn.Module):
    """A 3 x 3 depth-wise and a 1 x 1 convolution, activated only after the second."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.depthwise_conv = _depthwise(in_channels, 3, stride)
        self.pointwise_conv = ConvModule(in_channels, out_channels, 1, norm="BN")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return out


def _depthwise(
    channels: int, kernel_size: int, stride: int, activation: Activation | None = None
) -> ConvModule:
    return ConvModule(
        channels,
        channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        groups=channels,
        norm="BN",
        activation=activation,
    )


def _check_widths(owner: str, in_channels: int, out_channels: int, stride: int) -> None:
    if stride not in (1, 2) or out_channels % 2:
        raise ConfigError(
            f"{owner} needs stride 1 or 2 and an even number of output channels, got stride "
            f"{stride} and {out_channels} channels"
        )
    if stride == 1 and in_channels != out_channels:
        raise ConfigError(
            f"{owner} with stride 1 needs equal channels, got {in_channels} to {out_channels}"
        )


def _check_kernel(owner: str, kernel_size: int) -> None:
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ConfigError(f"{owner}.kernel_size must be odd, got {kernel_size}")
