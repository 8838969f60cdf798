"""From thousands of scored candidates to the detections of an image."""

import torch
from torch import Tensor
from torchvision.ops import batched_nms


def top_candidates(
    logits: Tensor, classes: int, score_thr: float, limit: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the best (anchor, cell, class) entries of one level of one image.

    Works on the map as the convolution left it; nothing is transposed or copied.

    Args:
        logits: (A * C, H, W), sigmoid logits, anchors outermost.
        classes: C.
        score_thr: entries must have a higher sigmoid score; 0 keeps all.
        limit: how many to return at most.

    Returns:
        (K,) scores, best first; (K,) labels; (K,) anchor numbers; (K,) cell numbers, row by row.
    """
    flat = logits.reshape(-1)
    if score_thr > 0:
        kept = (flat > _logit(score_thr)).nonzero().squeeze(1)
        values, order = flat[kept].topk(min(limit, len(kept)))
        order = kept[order]
    else:
        values, order = flat.topk(min(limit, len(flat)))
    cells = logits[0].numel()
    channel, cell = order // cells, order % cells
    return values.float().sigmoid(), channel % classes, channel // classes, cell


def suppress(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float | None, limit: int
) -> Tensor:
    """Return the indices that survive non-maximum suppression within each class, best first.

    Args:
        boxes: (N, 4) pixels.
        scores: (N,).
        labels: (N,) int64.
        iou_threshold: a box is dropped if a better one of its class overlaps it more; None drops
            none.
        limit: how many to return at most.
    """
    if iou_threshold is None:
        return scores.argsort(descending=True, stable=True)[:limit]
    return batched_nms(boxes.float(), scores.float(), labels, iou_threshold)[:limit]


def _logit(score: float) -> float:
    return float(torch.logit(torch.tensor(score, dtype=torch.float64)))
