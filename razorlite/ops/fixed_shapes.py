"""Suppression in tensors of fixed shapes, as graphs for other runtimes need it."""

import torch
from torch import Tensor
from torchvision.ops import nms

MOST_CANDIDATES = 4096  # of an image that go into suppression; those that score lowest are left out
_EMPTY = (-2.0, -2.0, -1.0, -1.0)  # the box of slots without a candidate, beside all images


def keep_best(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    iou_threshold: float | None,
    limit: int,
    min_size: float = 0.0,
    most: int | None = MOST_CANDIDATES,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what survives non-maximum suppression within each class, best first.

    Args:
        boxes: (N, K, 4) pixels.
        scores: (N, K), 0 in empty slots.
        labels: (N, K) int64.
        iou_threshold: a box is dropped if a better one of its image and class overlaps it more;
            None drops none.
        limit: how many to keep of an image at most.
        min_size: pixels that width and height must exceed.
        most: best candidates of an image that take part; None for all.

    Returns:
        (N, M, 4) boxes, (N, M) scores, 0 in empty slots, and (N, M) labels, where M is `limit`, or
        K where that is less.
    """
    index, kept = best_rows(
        boxes,
        scores,
        labels,
        iou_threshold=iou_threshold,
        limit=limit,
        min_size=min_size,
        most=most,
    )
    return rows_of(boxes, index), kept, labels.gather(1, index)


def best_rows(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    iou_threshold: float | None,
    limit: int,
    min_size: float = 0.0,
    most: int | None = MOST_CANDIDATES,
) -> tuple[Tensor, Tensor]:
    """Return the (N, M) numbers of the candidates that `keep_best` keeps, and their scores.

    Takes what `keep_best` takes.
    """
    count = scores.shape[1] if most is None else min(most, scores.shape[1])
    first = scores.topk(count)
    boxes, labels = rows_of(boxes, first.indices), labels.gather(1, first.indices)
    sides = boxes[..., 2:] - boxes[..., :2]
    scores = torch.where((sides > min_size).all(-1), first.values, 0.0)
    if iou_threshold is not None:
        scores = scores * _unsuppressed(boxes, scores, labels, iou_threshold)
    best = scores.topk(min(limit, scores.shape[1]))
    return first.indices.gather(1, best.indices), best.values


def filled_slots(scores: Tensor) -> Tensor:
    """Return the (M,) numbers of the slots that some image fills, and of the first one always.

    Args:
        scores: (N, K), 0 in empty slots.
    """
    filled = (scores > 0).any(0)
    first = torch.arange(scores.shape[1], device=scores.device) == 0
    return (filled | first).nonzero().squeeze(1)


def rows_of(values: Tensor, index: Tensor) -> Tensor:
    """Return the (N, M, D) rows of (N, K, D) values that (N, M) numbers name, image by image."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def _unsuppressed(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Return (N, K), 1 where no better box of the same image and class overlaps more.

    Images and classes are moved apart, so that one suppression serves them all. Empty slots share
    one box, which drops all of them but the first: thousands would else be compared pair by pair.
    """
    image = torch.arange(scores.shape[0], device=scores.device)[:, None]
    group = labels + image * (labels.max() + 1)
    apart = boxes + (group * (boxes.max() + 1))[..., None]
    apart = torch.where(scores[..., None] > 0, apart, boxes.new_tensor(_EMPTY))
    rows = nms(apart.flatten(0, 1), scores.flatten(), threshold)
    flags = torch.zeros_like(scores.flatten()).scatter(0, rows, torch.ones_like(rows).to(scores))
    return flags.view_as(scores)
