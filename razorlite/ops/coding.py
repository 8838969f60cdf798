"""How heads write boxes: as deltas to an anchor, or as distances from a point."""

import math

import torch
from torch import Tensor

from razorlite.ops.boxes import clip

_MAX_LOG_RATIO = abs(math.log(16 / 1000))
_MIN_SIDE = 1e-6  # a box without width would have the logarithm of 0, and divide by it


def boxes_to_deltas(
    anchors: Tensor,
    boxes: Tensor,
    means: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0),
    stds: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0),
) -> Tensor:
    """Encode boxes as shifts of the anchors' centres and logarithms of their size ratios.

    Args:
        anchors: (..., 4) pixels.
        boxes: (..., 4) pixels.
        means: subtracted from dx, dy, dw, dh.
        stds: what dx, dy, dw, dh are divided by afterwards.

    Returns:
        (..., 4) dx, dy (in anchor widths and heights), dw, dh.

    R-CNN, https://arxiv.org/abs/1311.2524, appendix C.
    """
    centre, size = _centre_and_size(anchors)
    goal, goal_size = _centre_and_size(boxes)
    size, goal_size = size.clamp(min=_MIN_SIDE), goal_size.clamp(min=_MIN_SIDE)
    shift, stretch = (goal - centre) / size, (goal_size / size).log()
    deltas = torch.cat((shift, stretch), -1)
    return (deltas - deltas.new_tensor(means)) / deltas.new_tensor(stds)


def deltas_to_boxes(
    anchors: Tensor,
    deltas: Tensor,
    means: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0),
    stds: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0),
    size: tuple[int, int] | None = None,
) -> Tensor:
    """Decode what `boxes_to_deltas` wrote.

    Args:
        anchors: (..., 4) pixels.
        deltas: (..., 4); dw and dh are held to a factor of 62.5 either way.
        means: as they were encoded.
        stds: as they were encoded.
        size: (height, width) to clip to; boxes are not clipped without it.

    Returns:
        (..., 4) boxes in pixels.
    """
    deltas = deltas * deltas.new_tensor(stds) + deltas.new_tensor(means)
    centre, old = _centre_and_size(anchors)
    centre = centre + deltas[..., :2] * old
    half = 0.5 * old * deltas[..., 2:].clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO).exp()
    boxes = torch.cat((centre - half, centre + half), -1)
    return boxes if size is None else clip(boxes, size)


def distances_to_boxes(
    points: Tensor, distances: Tensor, size: tuple[int, int] | None = None
) -> Tensor:
    """Decode left, top, right, bottom distances into boxes.

    Args:
        points: (..., 2) pixels, x then y.
        distances: (..., 4) pixels.
        size: (height, width) to clip to; boxes are not clipped without it.

    Returns:
        (..., 4) boxes in pixels.

    FCOS, https://arxiv.org/abs/1904.01355, eq. 1.
    """
    boxes = torch.cat((points - distances[..., :2], points + distances[..., 2:]), -1)
    return boxes if size is None else clip(boxes, size)


def boxes_to_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Return (..., 4) left, top, right, bottom distances of (..., 4) boxes' sides from points.

    Negative where the point lies outside that side.
    """
    return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), -1)


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[..., :2] + boxes[..., 2:]) * 0.5, boxes[..., 2:] - boxes[..., :2]
