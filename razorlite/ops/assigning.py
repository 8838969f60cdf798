"""Which anchor or point learns which object.

Assignments are int64: the object's index, or `BACKGROUND`, or `IGNORED`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from razorlite.ops.boxes import area, pairwise_iou

BACKGROUND = -1
IGNORED = -2

_INSIDE = 0.01  # pixels by which a centre must lie inside an object


def assign_by_iou(
    anchors: Tensor,
    boxes: Tensor,
    pos_iou_thr: float = 0.5,
    neg_iou_thr: float = 0.4,
    min_pos_iou: float = 0.0,
    match_low_quality: bool = True,
) -> Tensor:
    """Give each anchor the object it overlaps most.

    Args:
        anchors: (A, 4) pixels.
        boxes: (N, 4) objects in pixels.
        pos_iou_thr: an anchor learns its object from this IoU on.
        neg_iou_thr: below it an anchor is background; between the two it is ignored.
        min_pos_iou: objects whose best anchor reaches this (and overlaps at all) keep it ...
        match_low_quality: ... with all anchors that tie with it; the last such object wins.

    Returns:
        (A,) int64.

    Faster R-CNN, https://arxiv.org/abs/1506.01497, section 3.1.2.
    """
    if len(boxes) == 0 or len(anchors) == 0:
        return anchors.new_full((len(anchors),), BACKGROUND, dtype=torch.long)
    overlaps = pairwise_iou(boxes, anchors)
    best, index = overlaps.max(0)
    assigned = torch.where(best >= pos_iou_thr, index, IGNORED)
    assigned[best < neg_iou_thr] = BACKGROUND
    if match_low_quality:
        _keep_best_anchors(assigned, overlaps, min_pos_iou)
    return assigned


def _keep_best_anchors(assigned: Tensor, overlaps: Tensor, min_pos_iou: float) -> None:
    top = overlaps.max(1, keepdim=True).values
    # Without the second condition an object that no anchor touches would take every anchor.
    tied = (overlaps == top) & (top >= min_pos_iou) & (top > 0)
    objects = torch.arange(len(overlaps), device=overlaps.device)[:, None]
    last = torch.where(tied, objects, -1).max(0).values
    torch.where(last >= 0, last, assigned, out=assigned)


def assign_by_region(
    points: Tensor,
    strides: Tensor,
    ranges: Tensor,
    boxes: Tensor,
    valid: Tensor,
    center_radius: float | None = None,
) -> Tensor:
    """Give each point the smallest object around it whose size suits its level.

    Args:
        points: (P, 2) pixels, x then y.
        strides: (P,) pixels per cell of each point's level.
        ranges: (P, 2) smallest and largest of the longest side distance that the level takes.
        boxes: (B, N, 4) objects in pixels, padded to N per image.
        valid: (B, N) bool, false for padding.
        center_radius: points must also lie within so many strides of the object's centre.

    Returns:
        (B, P) int64; ties go to the first object.

    FCOS, https://arxiv.org/abs/1904.01355, section 3.1; centre sampling: its extended version.
    """
    if boxes.shape[1] == 0:
        return points.new_full((len(boxes), len(points)), BACKGROUND, dtype=torch.long)
    x, y = points[:, 0, None], points[:, 1, None]
    x1, y1, x2, y2 = boxes[:, None].unbind(-1)
    sides: tuple[Tensor, ...] = (x - x1, y - y1, x2 - x, y2 - y)
    longest = _fold(torch.maximum, sides)
    if center_radius is not None:
        sides = _central_sides(sides, boxes, points, strides[:, None] * center_radius)
    suits = (longest >= ranges[:, :1]) & (longest <= ranges[:, 1:]) & valid[:, None]
    suits &= _fold(torch.minimum, sides) > 0
    size, index = torch.where(suits, area(boxes)[:, None], torch.inf).min(-1)
    return torch.where(size.isinf(), BACKGROUND, index)


def _central_sides(
    sides: tuple[Tensor, ...], boxes: Tensor, points: Tensor, radius: Tensor
) -> tuple[Tensor, ...]:
    """Return the sides' distances together with those of a square around the centre."""
    cx, cy = ((boxes[..., :2] + boxes[..., 2:]) / 2)[:, None].unbind(-1)
    x, y = points[:, 0, None], points[:, 1, None]
    return *sides, x - cx + radius, y - cy + radius, cx + radius - x, cy + radius - y


def _fold(function: Callable[[Tensor, Tensor], Tensor], parts: tuple[Tensor, ...]) -> Tensor:
    result = parts[0]
    for part in parts[1:]:
        result = function(result, part)
    return result


def assign_by_statistics(
    anchors: Tensor, counts: list[int], boxes: Tensor, topk: int = 9
) -> Tensor:
    """Give each object its nearest anchors that overlap it more than usual.

    Candidates are the `topk` anchors of every level whose centres are nearest to the object's.
    Those count whose IoU reaches the candidates' mean plus standard deviation and whose centre
    lies inside the object. An anchor of several objects goes to the one it overlaps most.

    Args:
        anchors: (A, 4) pixels, level after level.
        counts: anchors of each level.
        boxes: (N, 4) objects in pixels.
        topk: candidates per level.

    Returns:
        (A,) int64, an object's index or BACKGROUND.

    ATSS, https://arxiv.org/abs/1912.02424, algorithm 1.
    """
    if len(boxes) == 0:
        return anchors.new_full((len(anchors),), BACKGROUND, dtype=torch.long)
    overlaps = pairwise_iou(boxes, anchors)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    near = _nearest(centres, counts, (boxes[:, :2] + boxes[:, 2:]) / 2, topk)
    candidates = overlaps.gather(1, near)
    threshold = candidates.mean(1) + candidates.std(1)
    sides = torch.cat((centres[near] - boxes[:, None, :2], boxes[:, None, 2:] - centres[near]), -1)
    good = (candidates >= threshold[:, None]) & (sides.amin(-1) > _INSIDE)
    score = torch.full_like(overlaps, -1).scatter_(1, near, torch.where(good, candidates, -1))
    best, index = score.max(0)
    return torch.where(best >= 0, index, BACKGROUND)


def _nearest(centres: Tensor, counts: list[int], goals: Tensor, topk: int) -> Tensor:
    """Return (N, K) indices of the anchors nearest to each of N goals, `topk` per level."""
    distances = (goals[:, None] - centres[None]).square().sum(-1).sqrt()
    start, rows = 0, []
    for part in distances.split(counts, 1):
        rows.append(part.topk(min(topk, part.shape[1]), 1, largest=False).indices + start)
        start += part.shape[1]
    return torch.cat(rows, 1)
