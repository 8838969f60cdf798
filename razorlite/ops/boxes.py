"""Box geometry. Boxes are x1, y1, x2, y2 in pixels."""

import math

import torch
from torch import Tensor


def area(boxes: Tensor) -> Tensor:
    """Return the areas of (..., 4) boxes as (...,), in square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (..., 4) boxes cut to an image of `size` = (height, width) pixels."""
    height, width = size
    x1, y1, x2, y2 = boxes.unbind(-1)
    x1, x2 = x1.clamp(0, width), x2.clamp(0, width)
    y1, y2 = y1.clamp(0, height), y2.clamp(0, height)
    return torch.stack((x1, y1, x2, y2), -1)


def clip_each(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Return (N, K, 4) boxes cut to N images of (N, 2) height and width in pixels."""
    limits = sizes.to(boxes).flip(1).repeat(1, 2)
    return torch.minimum(boxes.clamp(min=0), limits[:, None])


def pairwise_overlap(first: Tensor, second: Tensor) -> Tensor:
    """Return the (N, M) areas that (N, 4) and (M, 4) boxes have in common."""
    x1, y1, x2, y2 = first[:, None].unbind(-1)
    u1, v1, u2, v2 = second[None].unbind(-1)
    width = (torch.minimum(x2, u2) - torch.maximum(x1, u1)).clamp_(min=0)
    height = (torch.minimum(y2, v2) - torch.maximum(y1, v1)).clamp_(min=0)
    return width.mul_(height)


def pairwise_iou(first: Tensor, second: Tensor, eps: float = 1e-6) -> Tensor:
    """Return the (N, M) intersection over union of (N, 4) with (M, 4) boxes.

    The union counts as `eps` at least, so that boxes without area give 0.
    """
    overlap = pairwise_overlap(first, second)
    union = (area(first)[:, None] + area(second)[None]).sub_(overlap).clamp_(min=eps)
    return overlap.div_(union)


def paired_iou(first: Tensor, second: Tensor, eps: float = 1e-6) -> Tensor:
    """Return the (N,) intersection over union of box i of `first` with box i of `second`."""
    overlap, union = _overlap_and_union(first, second, eps)
    return overlap / union


def paired_giou(first: Tensor, second: Tensor, eps: float = 1e-6) -> Tensor:
    """Return the (N,) generalised IoU of box i of `first` with box i of `second`, in [-1, 1].

    IoU minus the part of the enclosing box that neither box covers.
    GIoU, https://arxiv.org/abs/1902.09630.
    """
    overlap, union = _overlap_and_union(first, second, eps)
    hull = _hull_sides(first, second).clamp(min=0).prod(-1).clamp(min=eps)
    return overlap / union - (hull - union) / hull


def paired_diou(first: Tensor, second: Tensor, eps: float = 1e-6) -> Tensor:
    """Return the (N,) IoU less the distance of the centres, in (-1, 1].

    The distance is squared and measured by the diagonal of the enclosing box.
    DIoU, https://arxiv.org/abs/1911.08287, eq. 7.
    """
    diagonal = _hull_sides(first, second).square().sum(-1).clamp(min=eps)
    between = first[:, :2] + first[:, 2:] - second[:, :2] - second[:, 2:]
    return paired_iou(first, second, eps) - between.square().sum(-1) / 4 / diagonal


def paired_ciou(first: Tensor, second: Tensor, eps: float = 1e-6) -> Tensor:
    """Return the (N,) DIoU less a weighted difference of the aspect ratios.

    The weight grows with the IoU and has no gradient.
    CIoU, https://arxiv.org/abs/1911.08287, eqs. 8 to 11.
    """
    lean = _lean(first, eps) - _lean(second, eps)
    aspect = lean.square() * (4 / math.pi**2)
    iou = paired_iou(first, second, eps).detach()
    weight = aspect.detach() / (1 - iou + aspect.detach()).clamp(min=eps)
    return paired_diou(first, second, eps) - weight * aspect


def _hull_sides(first: Tensor, second: Tensor) -> Tensor:
    """Return the (N, 2) width and height of the box around both boxes i."""
    return torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])


def _lean(boxes: Tensor, eps: float) -> Tensor:
    """Return the (N,) angle of the diagonal from upright; sides count as `eps` at least."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).clamp(min=eps).unbind(-1)
    return (width / height).atan()


def _overlap_and_union(first: Tensor, second: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    low = torch.maximum(first[:, :2], second[:, :2])
    high = torch.minimum(first[:, 2:], second[:, 2:])
    width, height = (high - low).clamp(min=0).unbind(-1)
    overlap = width * height
    return overlap, (area(first) + area(second) - overlap).clamp(min=eps)


def centres_to_corners(boxes: Tensor) -> Tensor:
    """Return (..., 4) boxes given as centre x, centre y, width, height by their corners."""
    half = boxes[..., 2:] / 2
    return torch.cat((boxes[..., :2] - half, boxes[..., :2] + half), -1)


def corners_to_centres(boxes: Tensor) -> Tensor:
    """Return centre x, centre y, width, height of (..., 4) boxes."""
    return torch.cat(((boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]), -1)
