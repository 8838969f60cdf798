"""Which point learns which object, by how well it predicts it already."""

import torch
import torch.nn.functional as F
from torch import Tensor

from razorlite.ops.assigning import BACKGROUND
from razorlite.ops.boxes import pairwise_iou
from razorlite.ops.coding import boxes_to_distances

_EPS = 1e-7


def assign_by_soft_cost(
    points: Tensor,
    strides: Tensor,
    predicted: Tensor,
    logits: Tensor,
    boxes: Tensor,
    labels: Tensor,
    topk: int = 13,
    iou_weight: float = 3.0,
    center_radius: float = 3.0,
    centres: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Give each object the points that predict it at the least cost.

    Candidates are the points inside any object. An object takes as many as the `topk` greatest
    IoUs of predictions with it add up to, rounded down, at least one. A point that several take
    goes to the object, of all, at whose least cost it comes. The cost is `soft_class_cost`, plus
    `iou_weight` times -log(IoU), plus 10 ** (distance from the centre in strides -
    `center_radius`).

    Args:
        points: (P, 2) pixels, x then y.
        strides: (P,) pixels per cell of each point's level.
        predicted: (P, 4) boxes in pixels.
        logits: (P, C) sigmoid logits.
        boxes: (N, 4) objects in pixels.
        labels: (N,) int64.
        topk: predictions that say how many points an object takes.
        iou_weight: of the overlap's cost.
        center_radius: strides from the centre at which the distance costs 1.
        centres: (N, 2) of the objects, x then y in pixels; those of their boxes by default.

    Returns:
        (P,) int64, an object's index or BACKGROUND; (P,) IoU of the prediction with that object,
        0 for background.

    SimOTA, https://arxiv.org/abs/2107.08430; RTMDet, https://arxiv.org/abs/2212.07784, section 3.3.
    """
    if len(boxes) == 0:
        background = labels.new_full((len(points),), BACKGROUND)
        return background, predicted.new_zeros(len(points))
    inside = boxes_to_distances(points[:, None], boxes[None]).amin(-1) > 0
    candidate = inside.any(1, keepdim=True)
    overlap = pairwise_iou(predicted, boxes)
    if centres is None:
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    distance = (points[:, None] - centres).square().sum(-1).sqrt() / strides[:, None]
    cost = soft_class_cost(logits, labels, overlap) - iou_weight * (overlap + _EPS).log()
    cost = (cost + 10 ** (distance - center_radius)).masked_fill_(~candidate, torch.inf)
    taken = take_cheapest(cost, overlap * candidate, topk)
    takers = taken.sum(1)
    index = torch.where(takers > 1, cost.argmin(1), taken.int().argmax(1))
    matched = takers > 0
    quality = overlap.gather(1, index[:, None])[:, 0]
    return torch.where(matched, index, BACKGROUND), torch.where(matched, quality, 0)


def soft_class_cost(logits: Tensor, labels: Tensor, overlap: Tensor) -> Tensor:
    """Return the (P, N) quality focal losses that points would have as parts of objects.

    The target of an object's class is the IoU, that of all others 0. Works without a
    (P, N, C) tensor: the loss as background, with the own class's entry put right.

    Args:
        logits: (P, C).
        labels: (N,) int64.
        overlap: (P, N) IoU of predictions with objects.
    """
    background = F.softplus(logits) * logits.sigmoid().square()
    own = logits[:, labels]
    entropy = F.binary_cross_entropy_with_logits(own, overlap, reduction="none")
    focus = (overlap - own.sigmoid()).square()
    return background.sum(1, keepdim=True) - background[:, labels] + entropy * focus


def take_cheapest(cost: Tensor, overlap: Tensor, topk: int) -> Tensor:
    """Return (P, N) bool: which points each object takes; a point may be taken several times.

    Args:
        cost: (P, N); infinite for points that cannot be taken.
        overlap: (P, N) IoU, 0 for points that cannot be taken.
        topk: how many of an object's greatest IoUs add up to the number of its points.
    """
    count = min(topk, len(cost))
    number = overlap.topk(count, 0).values.sum(0).int().clamp(min=1)
    values, rows = cost.topk(count, 0, largest=False)
    ranks = torch.arange(count, device=cost.device)[:, None]
    chosen = (ranks < number) & values.isfinite()
    return torch.zeros_like(cost, dtype=torch.bool).scatter_(0, rows, chosen)
