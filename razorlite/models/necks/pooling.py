"""From feature maps to one vector per image."""

from torch import Tensor, nn

from razorlite.core.registry import register


@register()
class GlobalAveragePooling(nn.Module):
    """The mean over space of the last feature map."""

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Map a tuple that ends in (N, C, H, W) to (N, C)."""
        return maps[-1].mean((2, 3))
