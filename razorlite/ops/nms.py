"""From thousands of scored candidates to the detections of an image."""

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from razorlite.ops.boxes import pairwise_iou


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


def soft_suppress(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    iou_threshold: float,
    limit: int,
    *,
    gaussian: bool = False,
    sigma: float = 0.5,
    min_score: float = 1e-3,
) -> tuple[Tensor, Tensor]:
    """Return indices, best first, and scores that fall with the overlap with better boxes.

    The best box is taken; the scores of its class's others are multiplied by 1 - IoU where the IoU
    is above the threshold, or (gaussian) by exp(-IoU^2 / sigma); and so on.

    Args:
        boxes: (N, 4) pixels.
        scores: (N,).
        labels: (N,) int64.
        iou_threshold: of the linear kind.
        limit: how many to return at most.
        gaussian: which kind of fall.
        sigma: of the gaussian kind.
        min_score: boxes whose score falls below it are dropped.

    Soft-NMS, https://arxiv.org/abs/1704.04503, fig. 2.
    """
    rest = scores.float().clone()
    taken: list[Tensor] = []
    final: list[Tensor] = []
    while len(taken) < min(limit, len(boxes)):
        score, best = rest.max(0)
        if not score >= min_score:
            break
        taken.append(best)
        final.append(score)
        overlap = pairwise_iou(boxes[best][None].float(), boxes.float())[0]
        overlap = torch.where(labels == labels[best], overlap, 0)
        linear = torch.where(overlap > iou_threshold, 1 - overlap, 1)
        rest = rest * (torch.exp(-overlap.square() / sigma) if gaussian else linear)
        rest[best] = -1
    if not taken:
        return labels.new_zeros(0), rest.new_zeros(0)
    return torch.stack(taken), torch.stack(final)


def _logit(score: float) -> float:
    return float(torch.logit(torch.tensor(score, dtype=torch.float64)))
