"""Where a head looks: grids of points and of anchor boxes over feature maps."""

import torch
from torch import Tensor

Stride = int | tuple[int, int]


def base_anchors(size: float, scales: tuple[float, ...], ratios: tuple[float, ...]) -> Tensor:
    """Return (len(ratios) * len(scales), 4) boxes around the origin, ratios outermost.

    Args:
        size: side in pixels of the square that scales multiply.
        scales: factors of the side.
        ratios: height over width; the area does not change with it.
    """
    root = torch.tensor(ratios).sqrt()
    scale = torch.tensor(scales) * size
    width = (scale[None] / root[:, None]).flatten()
    height = (scale[None] * root[:, None]).flatten()
    return torch.stack((-width, -height, width, height), 1) / 2


def grid_points(
    shape: tuple[int, int], stride: Stride, offset: float, device: torch.device | str = "cpu"
) -> Tensor:
    """Return (H * W, 2) x, y in image pixels of a map's cells, row by row.

    Args:
        shape: (H, W) of the feature map.
        stride: image pixels per cell; two numbers if they are not the same down and across.
        offset: where in its cell the point lies; 0.5 is the centre.
        device: where to make them.
    """
    down, across = stride if isinstance(stride, tuple) else (stride, stride)
    y = (torch.arange(shape[0], device=device) + offset) * down
    x = (torch.arange(shape[1], device=device) + offset) * across
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2).float()


def grid_anchors(base: Tensor, shape: tuple[int, int], stride: Stride) -> Tensor:
    """Return (H * W * A, 4) copies of (A, 4) base anchors at the corner of every cell."""
    corners = grid_points(shape, stride, 0.0, base.device)
    return (corners.repeat(1, 2)[:, None] + base[None]).reshape(-1, 4)
