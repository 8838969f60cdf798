"""Cameras to try a model with where no calibration is at hand."""

import math

import torch
from torch import Tensor

_FOCAL = 0.8  # length in widths of the image; nuScenes' cameras have 0.79
_HEIGHT = -0.3  # metres of the cameras above the lidar


def looking_around(cameras: int, size: tuple[int, int]) -> Tensor:
    """Return (N, 4, 4) matrices of cameras that share all directions, the first looking ahead.

    Args:
        cameras: how many.
        size: (height, width) of their images in pixels.

    Returns:
        Numbers on the CPU, also where new tensors have none, as in a check of shapes.
    """
    return torch.stack([_camera(2 * math.pi * i / cameras, size) for i in range(cameras)])


def _camera(turn: float, size: tuple[int, int]) -> Tensor:
    """Return the (4, 4) matrix of a camera that looks `turn` radians to the right of ahead."""
    height, width = size
    sine, cosine = math.sin(turn), math.cos(turn)
    outer = torch.tensor(
        [[cosine, -sine, 0, 0], [0, 0, -1, _HEIGHT], [sine, cosine, 0, 0], [0, 0, 0, 1]],
        device="cpu",
    )
    inner = torch.eye(4, device="cpu")
    inner[0, 0] = inner[1, 1] = _FOCAL * width
    inner[0, 2], inner[1, 2] = width / 2, height / 2
    return inner @ outer
