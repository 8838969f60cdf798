"""From a region proposal network's maps to the regions worth a look."""

import torch
from torch import Tensor

from razorlite.ops.anchors import grid_anchors
from razorlite.ops.boxes import clip, clip_each
from razorlite.ops.coding import deltas_to_boxes
from razorlite.ops.nms import entries_of, suppress, top_candidates

Four = tuple[float, float, float, float]
Size = tuple[int, int]


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
    anchors = [
        grid_anchors(b.to(x.device), (x.shape[-2], x.shape[-1]), stride)
        for b, x, stride in zip(base, logits, strides, strict=True)
    ]
    levels = [
        _best_of_level(x, d, a, means, stds, per_level)
        for x, d, a in zip(logits, deltas, anchors, strict=True)
    ]
    boxes, scores = (torch.cat(parts, 1) for parts in zip(*levels, strict=True))
    boxes = clip_each(boxes, torch.tensor(sizes, device=boxes.device))
    level = torch.cat([torch.full_like(x[1][0], k, dtype=torch.long) for k, x in enumerate(levels)])
    result = []
    for own, score in zip(boxes, scores, strict=True):
        large = ((own[:, 2:] - own[:, :2]) > min_size).all(1).nonzero().squeeze(1)
        kept = suppress(own[large], score[large], level[large], iou_threshold, limit)
        result.append(own[large[kept]])
    return result


def _best_of_level(
    logits: Tensor, deltas: Tensor, anchors: Tensor, means: Four, stds: Four, limit: int
) -> tuple[Tensor, Tensor]:
    """Return (N, K, 4) boxes and (N, K) scores of one level of all images, best first."""
    scores, _, anchor, cell = top_candidates(logits, 1, 0.0, limit, trim=True)
    per_cell = logits.shape[1]
    codes = entries_of(deltas, per_cell, anchor, cell).float()
    return deltas_to_boxes(anchors[cell * per_cell + anchor], codes, means, stds), scores


@torch.no_grad()
def refine_regions(
    boxes: list[Tensor],
    deltas: Tensor,
    labels: Tensor,
    means: Four,
    stds: Four,
    sizes: list[Size],
) -> list[Tensor]:
    """Return per image (K, 4) boxes in pixels, moved by what a head says and clipped.

    Args:
        boxes: per image (K, 4) in pixels.
        deltas: (R, 4 * k) of all images' boxes; k is 1 or the number of classes.
        labels: (R,) int64, whose deltas to use if there are several.
        means: of the deltas.
        stds: of the deltas.
        sizes: (height, width) to clip to, one per image.
    """
    per_class = deltas.float().unflatten(1, (-1, 4))
    index = (labels if per_class.shape[1] > 1 else torch.zeros_like(labels))[:, None, None]
    chosen = per_class.gather(1, index.expand(-1, 1, 4))[:, 0]
    moved = deltas_to_boxes(torch.cat(boxes), chosen, means, stds)
    parts = moved.split([len(b) for b in boxes])
    return [clip(part, size) for part, size in zip(parts, sizes, strict=True)]
