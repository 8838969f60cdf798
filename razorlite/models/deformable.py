"""Convolutions that choose where they look."""

from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torchvision.ops import deform_conv2d

from razorlite.core.ranges import Count, checked

fx.wrap("deform_conv2d")  # unpacks shapes, which tracing cannot


@checked
@dataclass(frozen=True, kw_only=True)
class DeformConfig:
    """Which stages of a ResNet have deformable 3 x 3 convolutions.

    Attributes:
        stages: one of four truth values for each stage.
        modulated: also weigh what is seen (version 2).
        groups: sets of offsets, each for its share of the channels.
    """

    stages: tuple[bool, ...] = (False, True, True, True)
    modulated: bool = True
    groups: Count = 1


class DeformableConv2d(nn.Conv2d):
    """A convolution each of whose taps is moved by what another convolution says.

    Versions 1 and 2 (modulated): https://arxiv.org/abs/1703.06211,
    https://arxiv.org/abs/1811.11168. It starts as the plain convolution (version 2: half of it).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        modulated: bool = True,
        deform_groups: int = 1,
    ) -> None:
        """Build the layers; the convolution has no bias, the offsets have."""
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=False
        )
        self.modulated = modulated
        taps = deform_groups * kernel_size**2
        self.conv_offset = nn.Conv2d(
            in_channels, taps * (3 if modulated else 2), kernel_size, stride, padding, dilation
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Start with offsets of 0."""
        nn.init.zeros_(self.conv_offset.weight)
        assert self.conv_offset.bias is not None
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        if torch.is_autocast_enabled("cpu"):  # where the operator has no kernel in 16 bits
            with torch.autocast("cpu", enabled=False):
                return self._moved(x.float()).type_as(x)
        return self._moved(x)

    def _moved(self, x: Tensor) -> Tensor:
        offset, mask = self.conv_offset(x), None
        if self.modulated:
            taps = self.conv_offset.out_channels // 3
            offset, mask = offset[:, : 2 * taps], offset[:, 2 * taps :].sigmoid()
        out: Tensor = deform_conv2d(
            x, offset, self.weight, None, self.stride, self.padding, self.dilation, mask
        )
        return out
