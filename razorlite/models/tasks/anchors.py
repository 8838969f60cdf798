"""Anchor boxes of every level of a pyramid."""

import torch
from torch import Tensor

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, Positive, Scales, Strides
from razorlite.core.registry import register
from razorlite.ops.anchors import base_anchors, grid_anchors

Shapes = list[tuple[int, int]]
_WHOLE = 32  # pixels


@register()
class AnchorGenerator:
    """Boxes of several sizes and shapes around the corner of every cell.

    Attributes:
        strides: image pixels per cell of each level.
        per_cell: anchors of one cell.
        base: per level (per_cell, 4) boxes around a cell's corner.
    """

    def __init__(
        self,
        *,
        strides: Strides = (8, 16, 32, 64, 128),
        ratios: Scales = (0.5, 1.0, 2.0),
        scales: Scales | None = None,
        octave_base_scale: Positive | None = None,
        scales_per_octave: Count | None = None,
    ) -> None:
        """Choose the boxes.

        Args:
            strides: image pixels per cell of each level.
            ratios: height over width of the boxes.
            scales: sides of a square box in strides.
            octave_base_scale: instead of `scales`, the first of several within an octave ...
            scales_per_octave: ... and how many these are.

        Raises:
            ConfigError: not exactly one of the two ways to give scales is used.
        """
        octave = (octave_base_scale, scales_per_octave)
        if (scales is None) == (None in octave) or octave.count(None) == 1:
            raise ConfigError(
                "AnchorGenerator needs either scales, or octave_base_scale and scales_per_octave; "
                f"got scales={scales}, octave_base_scale={octave[0]}, scales_per_octave={octave[1]}"
            )
        if octave_base_scale is not None and scales_per_octave is not None:
            steps = range(scales_per_octave)
            scales = tuple(octave_base_scale * 2 ** (i / scales_per_octave) for i in steps)
        assert scales is not None
        self.strides = tuple(strides)
        self.per_cell = len(scales) * len(ratios)
        self.base = [base_anchors(stride, scales, ratios) for stride in strides]

    def grids(self, shapes: Shapes, like: Tensor) -> list[Tensor]:
        """Return per level (H * W * A, 4) anchors in pixels, cells row by row, then anchors.

        Args:
            shapes: (H, W) of each level's map.
            like: the anchors come to this tensor's device.
        """
        levels = zip(self.base, shapes, self.strides, strict=True)
        return [grid_anchors(base.to(like.device), shape, stride) for base, shape, stride in levels]

    def inside(self, shapes: Shapes, image: tuple[int, int]) -> Tensor:
        """Return (P,) bool over all levels: which cells of padded maps begin inside the image.

        As in the published models an image reaches to the next multiple of 32 pixels, to which it
        would be padded by itself.

        Args:
            shapes: (H, W) of each level's map.
            image: (height, width) in pixels without padding.
        """
        bottom, right = (-(-side // _WHOLE) * _WHOLE for side in image)
        levels = []
        for (height, width), stride in zip(shapes, self.strides, strict=True):
            rows = torch.arange(height) * stride < bottom
            columns = torch.arange(width) * stride < right
            levels.append((rows[:, None] & columns).flatten().repeat_interleave(self.per_cell))
        return torch.cat(levels)
