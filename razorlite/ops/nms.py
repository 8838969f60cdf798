"""From thousands of scored candidates to the detections of an image."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms

from razorlite.ops.boxes import pairwise_iou


def top_candidates(
    logits: Tensor, classes: int, score_thr: float, limit: int, trim: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the best (anchor, cell, class) entries of one level of each image.

    The best entries belong to the anchors with the best classes: these are chosen first, so that
    the map is read once, as the convolution left it.

    Args:
        logits: (N, A * C, H, W), sigmoid logits, anchors outermost.
        classes: C.
        score_thr: entries must have a higher sigmoid score; 0 keeps all.
        limit: how many to return.
        trim: leave out slots that are empty in every image; without it K is `limit`, whatever the
            logits' values and sizes.

    Returns:
        (N, K) scores, best first, 0 in empty slots; (N, K) labels; (N, K) anchor numbers; (N, K)
        cell numbers, row by row.
    """
    least = _logit(score_thr)
    maps = logits.flatten(2).unflatten(1, (-1, classes))
    cells = maps.shape[3]
    best, chosen = _best(maps.amax(2).flatten(1), least, limit, trim)
    anchor = chosen // cells
    cell = chosen - anchor * cells
    rows = entries_of(logits, maps.shape[1], anchor, cell)
    rows = torch.where(best[..., None] > least, rows, -torch.inf).flatten(1)
    values, order = _best(rows, least, limit, trim)
    scores = torch.where(values > least, exact_sigmoid(values.float()), 0.0)
    index = order // classes
    return scores, order % classes, anchor.gather(1, index), cell.gather(1, index)


def exact_sigmoid(logits: Tensor) -> Tensor:
    """Return the sigmoid of logits of any shape, positive and in their order in every runtime.

    ONNX Runtime's own is off by 1e-7, and so puts what scores less than that in another order, or
    makes it 0: proposals of a trained network, most of which score far less. Below -80 all are
    alike.
    """
    small = (-logits.abs()).clamp(min=-80.0).exp()
    return torch.where(logits < 0, small, 1.0) / (1 + small)


def entries_of(maps: Tensor, per_cell: int, anchor: Tensor, cell: Tensor) -> Tensor:
    """Return the (N, K, D) entries of some anchors of N images.

    Args:
        maps: (N, A * D, H, W), anchors outermost.
        per_cell: A.
        anchor: (N, K) numbers below A.
        cell: (N, K) cell numbers, row by row.
    """
    rows = maps.flatten(2).unflatten(1, (per_cell, -1))
    image = torch.arange(maps.shape[0], device=maps.device)[:, None]
    taken: Tensor = rows[image, anchor, :, cell]
    return taken


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
    kept: Tensor = batched_nms(boxes.float(), scores.float(), labels, iou_threshold)[:limit]
    return kept


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


def _best(values: Tensor, least: float, limit: int, trim: bool) -> tuple[Tensor, Tensor]:
    """Return the largest of (N, M) values and their places, (N, K) each, see `top_candidates`."""
    if trim:
        count = int((values > least).sum(1).max()) if values.numel() else 0
        return values.topk(min(limit, count))
    found = F.pad(values, (0, limit), value=-torch.inf).topk(limit)
    return found.values, found.indices.clamp(max=values.shape[1] - 1)


def _logit(score: float) -> float:
    return float(torch.logit(torch.tensor(score, dtype=torch.float64)))
