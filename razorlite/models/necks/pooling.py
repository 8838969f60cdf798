"""From feature maps to one vector per image."""

from torch import Tensor, nn

from razorlite.core.ranges import Count
from razorlite.core.registry import register


@register()
class GlobalAveragePooling(nn.Module):
    """The mean over space of the last feature map."""

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Map a tuple that ends in (N, C, H, W) to (N, C)."""
        return maps[-1].mean((2, 3))


@register()
class MixedPooling(nn.Module):
    """The mean over space, and what one layer makes of it, as MobileNetV3 ends.

    https://arxiv.org/abs/1905.02244, section 5.1.
    """

    def __init__(self, *, in_channels: Count, out_channels: Count) -> None:
        """Build the layer, which has no bias.

        Args:
            in_channels: channels of the last feature map.
            out_channels: length of the vectors.
        """
        super().__init__()
        self.mix = nn.Linear(in_channels, out_channels, bias=False)
        self.activate = nn.Hardswish()

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Map a tuple that ends in (N, in_channels, H, W) to (N, out_channels)."""
        out: Tensor = self.activate(self.mix(maps[-1].mean((2, 3))))
        return out
