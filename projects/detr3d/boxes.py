"""Boxes in the lidar's frame: what networks learn of them, their corners, where they move.

The frame of nuScenes: x to the right, y ahead, z up, in metres. A box is cx, cy, cz (its middle),
l along the heading, w across it, h up, yaw of the heading from +x towards +y in radians, vx, vy in
metres per second.
"""

import math

import torch
from torch import Tensor

BOX = 9  # numbers of a box
CODE = 10  # numbers of a box's code
_EPS = 1e-5  # how near to 0 and 1 `logits` goes


def encode(boxes: Tensor) -> Tensor:
    """Return (…, 10) codes of (…, 9) boxes: cx, cy, log l, log w, cz, log h, sin, cos, vx, vy."""
    cx, cy, cz, length, width, height, yaw, vx, vy = boxes.unbind(-1)
    sizes = length.log(), width.log(), height.log()
    return torch.stack(
        [cx, cy, sizes[0], sizes[1], cz, sizes[2], yaw.sin(), yaw.cos(), vx, vy], dim=-1
    )


def decode(codes: Tensor) -> Tensor:
    """Return the (…, 9) boxes of (…, 10) codes."""
    cx, cy, length, width, cz, height, sine, cosine, vx, vy = codes.unbind(-1)
    sizes = length.exp(), width.exp(), height.exp()
    return torch.stack([cx, cy, cz, *sizes, torch.atan2(sine, cosine), vx, vy], dim=-1)


def wrapped(yaw: Tensor) -> Tensor:
    """Return angles of any shape (…) within -pi to pi."""
    return torch.remainder(yaw + math.pi, 2 * math.pi) - math.pi


def standing(boxes: Tensor) -> Tensor:
    """Return (…, 9) boxes with z at the bottom in the place of the middle, as MMDetection3D's."""
    lowered = boxes.clone()
    lowered[..., 2] -= boxes[..., 5] / 2
    return lowered


def inside(points: Tensor, space: tuple[float, ...]) -> Tensor:
    """Return (…,) bool: which (…, D) points lie in a space, its borders included.

    Args:
        points: (…, D), D coordinates.
        space: D least ones, then D greatest ones.
    """
    low, high = points.new_tensor(space).chunk(2)
    return ((points >= low) & (points <= high)).all(-1)


def corners(boxes: Tensor) -> Tensor:
    """Return (N, 8, 3) corners of (N, 9) boxes: the front four first, each from left below round.

    The order of four is left below, left above, right above, right below, seen along the heading.
    """
    signs = boxes.new_tensor(
        [[x, y, z] for x in (1, -1) for y, z in ((1, -1), (1, 1), (-1, 1), (-1, -1))]
    )
    own = signs * boxes[:, None, 3:6] / 2
    sine, cosine = boxes[:, 6].sin()[:, None], boxes[:, 6].cos()[:, None]
    x = cosine * own[..., 0] - sine * own[..., 1]
    y = sine * own[..., 0] + cosine * own[..., 1]
    return boxes[:, None, :3] + torch.stack([x, y, own[..., 2]], dim=-1)


def logits(shares: Tensor) -> Tensor:
    """Return what the sigmoid makes shares of, within 0 to 1 and of any shape (…).

    What is nearer than 1e-5 to 0 or to 1 counts as that far from it.
    """
    return (shares.clamp(min=_EPS) / (1 - shares).clamp(min=_EPS)).log()
