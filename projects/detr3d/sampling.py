"""What the maps of all cameras show of points in space.

DETR3D, https://arxiv.org/abs/2110.06922, section 3.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_LEAST_DEPTH = 1e-5  # metres in front of a camera


@dataclass(frozen=True)
class Views:
    """The maps of all cameras, and how the cameras see space.

    Attributes:
        maps: of each level (B * N, C, h, w), N cameras of a sample one after the other.
        lidar2img: (B, N, 4, 4); the first three rows times (x, y, z, 1) are u * depth, v * depth
            and depth, in pixels of the images and metres.
        size: (height, width) in pixels of the images with their padding.
    """

    maps: Sequence[Tensor]
    lidar2img: Tensor
    size: tuple[Any, Any]


def to_metres(points: Tensor, space: tuple[float, ...]) -> Tensor:
    """Return (…, 3) points in metres of (…, 3) shares of a space.

    Args:
        points: 0 to 1 along each axis.
        space: least x, y, z and greatest x, y, z, in metres.
    """
    axes = zip(points.unbind(-1), space[:3], space[3:], strict=True)
    return torch.stack([share * (high - low) + low for share, low, high in axes], dim=-1)


def project(points: Tensor, lidar2img: Tensor) -> tuple[Tensor, Tensor]:
    """Return where cameras see points, in pixels, and how far ahead of them the points are.

    No matrix product: it would be rounded where layers compute in bf16.

    Args:
        points: (B, Q, 3) in metres.
        lidar2img: (B, N, 4, 4).

    Returns:
        (B, N, Q, 2) u to the right and v down; (B, N, Q) depths in metres, of points behind a
        camera below 0, whose pixels mean nothing.
    """
    rows = lidar2img[:, :, None, :3, :3] * points[:, None, :, None]
    seen = rows.sum(-1) + lidar2img[:, :, None, :3, 3]
    depth = seen[..., 2]
    return seen[..., :2] / depth.clamp(min=_LEAST_DEPTH)[..., None], depth


def locate(points: Tensor, views: Views) -> tuple[Tensor, Tensor]:
    """Return where in the images points lie, and which cameras see them.

    Args:
        points: (B, Q, 3) in metres.
        views: what the cameras see; its maps are not looked at.

    Returns:
        (B, N, Q, 2) u and v in shares of the padded images; (B, N, Q) bool, in front of the camera
        and inside its image or the padding, edges excluded.
    """
    pixels, depth = project(points, views.lidar2img)
    height, width = views.size
    u, v = pixels[..., 0] / width, pixels[..., 1] / height
    visible = (depth > _LEAST_DEPTH) & (u > 0) & (u < 1) & (v > 0) & (v < 1)
    return torch.stack([u, v], dim=-1), visible


def look_up(maps: Tensor, places: Tensor) -> Tensor:
    """Return (B, N, C, Q): what a level's maps show at places, between cells bilinearly.

    Beyond the maps they are 0.

    Args:
        maps: (B * N, C, h, w).
        places: (B, N, Q, 2) u and v in shares of the padded images.
    """
    grid = (2 * places - 1).flatten(0, 1)[:, :, None]
    found = F.grid_sample(maps.type_as(grid), grid, align_corners=False)
    by_camera: Tensor = found.squeeze(3).unflatten(0, (-1, places.shape[1]))
    return by_camera


def sample(points: Tensor, views: Views) -> tuple[Tensor, Tensor]:
    """Return what all levels of all cameras show of points, whether it is in sight or not.

    Args:
        points: (B, Q, 3) in metres.
        views: of L levels.

    Returns:
        (B, N, C, Q, L) features, and (B, N, Q) bool, which cameras see them.
    """
    places, visible = locate(points, views)
    return torch.stack([look_up(x, places) for x in views.maps], dim=-1), visible
