"""From a region proposal network's maps to the regions worth a look."""

from collections.abc import Sequence

import torch
from torch import Tensor

from razorlite.ops.anchors import Stride, grid_anchors
from razorlite.ops.boxes import clip, clip_each
from razorlite.ops.coding import deltas_to_boxes
from razorlite.ops.fixed_shapes import keep_best
from razorlite.ops.nms import entries_of, suppress, top_candidates

Four = tuple[float, float, float, float]
Size = tuple[int, int]
Boxes = list[Tensor] | Tensor


@torch.no_grad()
def propose_regions(
    logits: tuple[Tensor, ...],
    deltas: tuple[Tensor, ...],
    base: list[Tensor],
    strides: tuple[int, ...],
    means: Four,
    stds: Four,
    sizes: list[Size],
    per_level: int,
    iou_threshold: float | None,
    limit: int,
    min_size: float,
) -> list[Tensor]:
    """Return per image (K, 4) boxes in pixels, best first.

    Tensors without data ("meta") give `limit` boxes per image, so that costs can be counted.

    Args:
        logits: (N, A, H, W) objectness per level.
        deltas: (N, A * 4, H, W) per level.
        base: (A, 4) anchors around a cell's corner per level.
        strides: image pixels per cell of each level.
        means: of the deltas.
        stds: of the deltas.
        sizes: (height, width) to clip to, one per image.
        per_level: best boxes of each level that go on.
        iou_threshold: of the suppression within each level.
        limit: boxes per image at most.
        min_size: pixels that width and height must exceed.
    """
    if logits[0].is_meta:
        return [logits[0].new_empty((limit, 4)) for _ in sizes]
    levels = zip(logits, deltas, base, strides, strict=True)
    best = [_best_of_level(*level, means, stds, per_level, trim=True) for level in levels]
    boxes, scores, level = _join(best, torch.tensor(sizes, device=logits[0].device))
    result = []
    for own, score in zip(boxes, scores, strict=True):
        large = ((own[:, 2:] - own[:, :2]) > min_size).all(1).nonzero().squeeze(1)
        kept = suppress(own[large], score[large], level[large], iou_threshold, limit)
        result.append(own[large[kept]])
    return result


@torch.no_grad()
def propose_fixed(
    logits: tuple[Tensor, ...],
    deltas: tuple[Tensor, ...],
    base: list[Tensor],
    strides: Sequence[Stride],
    means: Four,
    stds: Four,
    sizes: Tensor,
    per_level: int,
    iou_threshold: float | None,
    limit: int,
    min_size: float,
) -> tuple[Tensor, Tensor]:
    """Return what `propose_regions` does, in tensors of fixed shapes.

    Args:
        logits: (N, A, H, W) objectness per level.
        deltas: (N, A * 4, H, W) per level.
        base: (A, 4) anchors around a cell's corner per level.
        strides: image pixels per cell of each level.
        means: of the deltas.
        stds: of the deltas.
        sizes: (N, 2) height and width to clip to.
        per_level: best boxes of each level that go on.
        iou_threshold: of the suppression within each level.
        limit: boxes per image at most.
        min_size: pixels that width and height must exceed.

    Returns:
        (N, K, 4) boxes in pixels, best first; (N, K) scores, 0 in empty slots.
    """
    levels = zip(logits, deltas, base, strides, strict=True)
    best = [_best_of_level(*level, means, stds, per_level, trim=False) for level in levels]
    boxes, scores, level = _join(best, sizes)
    boxes, scores, _ = keep_best(
        boxes,
        scores,
        level.expand_as(scores),
        iou_threshold=iou_threshold,
        limit=limit,
        min_size=min_size,
        most=None,
    )
    return boxes, scores


def _best_of_level(
    logits: Tensor,
    deltas: Tensor,
    base: Tensor,
    stride: Stride,
    means: Four,
    stds: Four,
    limit: int,
    *,
    trim: bool,
) -> tuple[Tensor, Tensor]:
    """Return (N, K, 4) boxes and (N, K) scores of one level of all images, best first."""
    anchors = grid_anchors(base.to(logits.device), (logits.shape[-2], logits.shape[-1]), stride)
    scores, _, anchor, cell = top_candidates(logits, 1, 0.0, limit, trim=trim)
    per_cell = logits.shape[1]
    codes = entries_of(deltas, per_cell, anchor, cell).float()
    return deltas_to_boxes(anchors[cell * per_cell + anchor], codes, means, stds), scores


def _join(levels: list[tuple[Tensor, Tensor]], sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (N, K, 4) clipped boxes, (N, K) scores and (K,) levels of what each level gave."""
    boxes, scores = (torch.cat(parts, 1) for parts in zip(*levels, strict=True))
    level = [torch.full_like(s[0], k, dtype=torch.long) for k, (_, s) in enumerate(levels)]
    return clip_each(boxes, sizes), scores, torch.cat(level)


@torch.no_grad()
def refine_regions(
    boxes: Boxes,
    deltas: Tensor,
    labels: Tensor,
    means: Four,
    stds: Four,
    sizes: Sequence[Size] | Tensor,
) -> Boxes:
    """Return boxes in pixels, moved by what a head says and clipped, in the form they came in.

    Args:
        boxes: per image (K, 4) in pixels, or (N, K, 4).
        deltas: (R, 4 * k) of all images' boxes; k is 1 or the number of classes.
        labels: (R,) int64, whose deltas to use if there are several.
        means: of the deltas.
        stds: of the deltas.
        sizes: (height, width) to clip to, one per image: (N, 2) where `boxes` is a tensor.
    """
    per_class = deltas.float().unflatten(1, (-1, 4))
    index = (labels if per_class.shape[1] > 1 else torch.zeros_like(labels))[:, None, None]
    chosen = per_class.gather(1, index.expand(-1, 1, 4))[:, 0]
    if isinstance(boxes, Tensor):
        moved = deltas_to_boxes(boxes.flatten(0, 1), chosen, means, stds)
        return clip_each(moved.view_as(boxes), torch.as_tensor(sizes))
    moved = deltas_to_boxes(torch.cat(boxes), chosen, means, stds)
    parts = moved.split([len(b) for b in boxes])
    return [clip(part, (size[0], size[1])) for part, size in zip(parts, sizes, strict=True)]
