"""Anchors fitted to the boxes of a data set: k-means over their shapes, then evolution.

Distances are 1 - IoU, as in YOLOv2, https://arxiv.org/abs/1612.08242, section 2. Widths and heights
are pixels of the images as a detector sees them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from razorlite.core.progress import progress

Array = NDArray[np.float64]
THRESHOLDS = (0.5, 0.6, 0.7)
_ROUNDS = 30  # of k-means
_GENERATIONS = 200
_MOST_BOXES = 2000  # that evolution looks at
_STEP = 0.08  # spread of the logarithm of a child's numbers around its parent's


@dataclass(frozen=True)
class Anchors:
    """Boxes of the same scales and ratios at every cell of several levels.

    Attributes:
        strides: pixels per cell of each level.
        scales: sides of a square box in strides.
        ratios: height over width.
    """

    strides: tuple[int, ...]
    scales: tuple[float, ...]
    ratios: tuple[float, ...]

    @property
    def shapes(self) -> Array:
        """(L * R * S, 3) width, height and stride of each anchor."""
        root = np.sqrt(self.ratios)
        cells = [(s / r, s * r) for r in root for s in self.scales]
        return np.array([(w * t, h * t, t) for t in self.strides for w, h in cells])


@dataclass(frozen=True)
class Fit:
    """How well anchors fit boxes.

    Attributes:
        anchors: what was measured.
        mean: of the best IoU of each box.
        recall: share of the boxes whose best IoU reaches a threshold.
    """

    anchors: Anchors
    mean: float
    recall: dict[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return all as plain values."""
        return {
            "scales": [round(float(scale), 3) for scale in self.anchors.scales],
            "ratios": [round(float(ratio), 3) for ratio in self.anchors.ratios],
            "mean_iou": round(self.mean, 4),
            "recall": {str(iou): round(share, 4) for iou, share in self.recall.items()},
        }


def best_ious(boxes: Array, anchors: Anchors) -> Array:
    """Return (N,) the IoU of each box with its best anchor at the nearest corner of a cell.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 in pixels.
        anchors: at the corners of all cells.
    """
    sides = boxes[:, None, 2:] - boxes[:, None, :2]
    centres = (boxes[:, None, 2:] + boxes[:, None, :2]) / 2
    shapes = anchors.shapes[None]
    stride = shapes[..., 2:]
    shift = np.round(centres / stride) * stride - centres
    ends = np.minimum(sides / 2, shift + shapes[..., :2] / 2)
    starts = np.maximum(-sides / 2, shift - shapes[..., :2] / 2)
    common = np.clip(ends - starts, 0, None).prod(-1)
    union = sides.prod(-1) + shapes[..., :2].prod(-1) - common
    best: Array = (common / union).max(1)
    return best


def measure(boxes: Array, anchors: Anchors) -> Fit:
    """Return how well anchors fit (N, 4) boxes in pixels."""
    best = best_ious(boxes, anchors)
    recall = {iou: float((best >= iou).mean()) for iou in THRESHOLDS}
    return Fit(anchors, float(best.mean()), recall)


def fit_anchors(boxes: Array, start: Anchors, *, seed: int = 0) -> Fit:
    """Return anchors, as many at a cell as `start` has, whose best IoUs are the highest found.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 in pixels, N above 0.
        start: what strides and numbers are taken from; the result is never worse on the boxes that
            are looked at (2000 at most, drawn at random).
        seed: of all that is drawn.
    """
    rng = np.random.default_rng(seed)
    some = boxes[rng.permutation(len(boxes))[:_MOST_BOXES]]
    begin = max((start, _from_clusters(some, start, rng)), key=lambda one: measure(some, one).mean)
    return measure(boxes, _rounded(_evolved(some, begin, rng)))


def cluster(shapes: Array, count: int, rng: np.random.Generator) -> Array:
    """Return (count, 2) mean shapes of k-means with the distance 1 - IoU.

    Args:
        shapes: (N, 2) width and height.
        count: of clusters; shapes are repeated where there are fewer.
        rng: draws the first ones, each among those far from the ones before.
    """
    means = shapes[rng.integers(len(shapes), size=1)]
    while len(means) < count:
        far = (1 - _shape_ious(shapes, means)).min(1) ** 2
        share = far / far.sum() if far.sum() else None
        means = np.concatenate((means, shapes[rng.choice(len(shapes), size=1, p=share)]))
    for _ in range(_ROUNDS):
        nearest = _shape_ious(shapes, means).argmax(1)
        own = [shapes[nearest == i] for i in range(count)]
        pairs = zip(own, means, strict=True)
        means = np.stack([few.mean(0) if len(few) else mean for few, mean in pairs])
    return means


def _shape_ious(shapes: Array, means: Array) -> Array:
    common = np.minimum(shapes[:, None], means[None]).prod(-1)
    ious: Array = common / (shapes.prod(1)[:, None] + means.prod(1)[None] - common)
    return ious


def _from_clusters(boxes: Array, start: Anchors, rng: np.random.Generator) -> Anchors:
    """Return scales and ratios of clusters of shapes, in strides of the level that suits each."""
    sides = boxes[:, 2:] - boxes[:, :2]
    size = np.sqrt(sides.prod(1))
    usual = np.array(start.strides) * np.exp(np.mean(np.log(start.scales)))
    level = np.abs(np.log(size[:, None] / usual)).argmin(1)
    shapes = sides / np.array(start.strides)[level][:, None]
    means = cluster(shapes, len(start.scales) * len(start.ratios), rng)
    scales = _grouped(np.sqrt(means.prod(1)), len(start.scales))
    ratios = _grouped(means[:, 1] / means[:, 0], len(start.ratios))
    return replace(start, scales=scales, ratios=ratios)


def _grouped(values: Array, count: int) -> tuple[float, ...]:
    """Return the geometric means of as many groups of neighbours."""
    groups = np.array_split(np.sort(values), count)
    return tuple(float(np.exp(np.log(group).mean())) for group in groups)


def _evolved(boxes: Array, parent: Anchors, rng: np.random.Generator) -> Anchors:
    """Return the best of generations of one child, each of the best so far."""
    best = measure(boxes, parent).mean
    for _ in progress(range(_GENERATIONS), "generations of anchors", _GENERATIONS):
        child = replace(
            parent,
            scales=_mutated(parent.scales, rng),
            ratios=_mutated(parent.ratios, rng),
        )
        score = measure(boxes, child).mean
        if score > best:
            parent, best = child, score
    return parent


def _mutated(values: Sequence[float], rng: np.random.Generator) -> tuple[float, ...]:
    changes = rng.normal(0, _STEP, len(values)) * (rng.random(len(values)) < 0.5)
    return tuple(sorted(float(v) for v in np.array(values) * np.exp(changes)))


def _rounded(anchors: Anchors) -> Anchors:
    scales, ratios = (tuple(round(v, 3) for v in vs) for vs in (anchors.scales, anchors.ratios))
    return replace(anchors, scales=scales, ratios=ratios)
