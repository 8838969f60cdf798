"""Attention that can be put behind a convolution of a residual block."""

import torch
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, Kernel, Positive
from razorlite.core.registry import register


class Plugin(nn.Module):
    """Base of what a block can be extended with: (N, C, H, W) to the same shape.

    Attributes:
        plugin_name: the name of the module inside its block.
    """

    plugin_name: str

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        raise NotImplementedError

    def init_weights(self) -> None:
        """Give the layers the weights they start with, after the backbone has set its own."""


@register()
class ContextBlock(Plugin):
    """Adds the same vector everywhere, made from an attention-weighted mean over space.

    GCNet's global context block, https://arxiv.org/abs/1904.11492, fig. 4 (d). It starts as the
    identity.
    """

    plugin_name = "context_block"

    def __init__(self, *, in_channels: Count, ratio: Positive = 1 / 16) -> None:
        """Build the layers; the vector passes through in_channels * ratio channels."""
        super().__init__()
        width = _width("ContextBlock.ratio", in_channels, ratio)
        self.conv_mask = nn.Conv2d(in_channels, 1, 1)
        self.channel_add_conv = nn.Sequential(
            nn.Conv2d(in_channels, width, 1),
            nn.LayerNorm([width, 1, 1]),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, in_channels, 1),
        )
        self.init_weights()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        share = self.conv_mask(x).flatten(2).softmax(2)
        context = torch.matmul(x.flatten(2), share.transpose(1, 2))
        out: Tensor = x + self.channel_add_conv(context.unsqueeze(3))
        return out

    def init_weights(self) -> None:
        """Start with nothing to add."""
        nn.init.kaiming_normal_(self.conv_mask.weight, nonlinearity="relu")
        for parameter in self.channel_add_conv[-1].parameters():
            nn.init.zeros_(parameter)


@register()
class SqueezeExcite(Plugin):
    """Weighs channels by a small network over their means, https://arxiv.org/abs/1709.01507."""

    plugin_name = "se"

    def __init__(self, *, in_channels: Count, ratio: Positive = 1 / 16) -> None:
        """Build the layers; the means pass through in_channels * ratio channels."""
        super().__init__()
        width = _width("SqueezeExcite.ratio", in_channels, ratio)
        self.conv1 = nn.Conv2d(in_channels, width, 1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        means = x.mean((2, 3), keepdim=True)
        out: Tensor = x * self.conv2(self.relu(self.conv1(means))).sigmoid()
        return out


@register()
class CBAM(Plugin):
    """Weighs channels, then places, each by means and maxima, https://arxiv.org/abs/1807.06521."""

    plugin_name = "cbam"

    def __init__(
        self, *, in_channels: Count, ratio: Positive = 1 / 16, kernel_size: Kernel = 7
    ) -> None:
        """Build the layers.

        Args:
            in_channels: channels of the map.
            ratio: channels within the channel attention over those of the map.
            kernel_size: odd side of the kernel that weighs places.

        Raises:
            ConfigError: `ratio` leaves no channel, or the kernel is even.
        """
        super().__init__()
        if kernel_size % 2 == 0:
            raise ConfigError(f"CBAM.kernel_size must be odd, got {kernel_size}")
        width = _width("CBAM.ratio", in_channels, ratio)
        self.channel = nn.Sequential(
            nn.Conv2d(in_channels, width, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, in_channels, 1),
        )
        self.spatial = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        mean, top = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        x = x * (self.channel(mean) + self.channel(top)).sigmoid()
        places = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)
        out: Tensor = x * self.spatial(places).sigmoid()
        return out


def _width(owner: str, in_channels: int, ratio: float) -> int:
    width = int(in_channels * ratio)
    if width < 1:
        raise ConfigError(f"{owner} leaves no channel of {in_channels}, got {ratio}")
    return width
