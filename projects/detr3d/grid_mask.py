"""Squares that are blanked out of images in training."""

from typing import Annotated

import torch
from torch import Tensor, nn

from razorlite.core.ranges import Range, Share
from razorlite.core.registry import register

Part = Annotated[float, Range(above=0, below=1)]


@register()
class GridMask(nn.Module):
    """Blanks the squares of a grid in all images of a batch, the same in each; bars stay.

    The grid's step is drawn from 2 pixels to the images' height, and so is where it begins.
    GridMask, https://arxiv.org/abs/2001.04086, as DETR3D uses it.
    """

    def __init__(self, *, prob: Share = 0.7, ratio: Part = 0.5) -> None:
        """Keep the settings.

        Args:
            prob: probability, for each batch, of blanking anything.
            ratio: width of the bars that stay, as a share of the grid's step.
        """
        super().__init__()
        self.prob, self.ratio = prob, ratio

    def forward(self, images: Tensor) -> Tensor:
        """Map (…, 3, H, W) normalised images to the same with 0 in squares; only in training."""
        if not self.training or float(torch.rand(())) >= self.prob:
            return images
        height, width = images.shape[-2:]
        step = int(torch.randint(2, max(height, 3), ()))
        bar = min(max(int(step * self.ratio + 0.5), 1), step - 1)
        rows, columns = (_bars(side, step, bar).to(images.device) for side in (height, width))
        return images * (rows[:, None] | columns)


def _bars(side: int, step: int, bar: int) -> Tensor:
    """Return (side,) bool, true on bars that lie `step` apart and begin anywhere."""
    start = int(torch.randint(step, ()))
    return (torch.arange(side) - start) % step < bar
