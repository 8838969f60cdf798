"""How far a metric would move on other images: the bootstrap over images."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Draws = NDArray[np.int64]
Values = NDArray[np.float64]


def image_draws(images: int, count: int = 200, seed: int = 0) -> Draws:
    """Draw as many images as there are, with replacement, so many times.

    Models that are compared take the same draws, so that what images have in common cancels.

    Returns:
        (count, images), how often each image is in a draw.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), count)


def interval(values: Values, share: float = 0.95) -> tuple[float, float]:
    """Return the range that holds the middle share of (B,) values.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, eq. 13.5.
    """
    low, high = np.quantile(values, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def coco_draws(records: Iterable[dict[str, Any] | None], draws: Draws) -> Values:
    """Return one class's average precision on each draw of images, as COCOeval accumulates it.

    Args:
        records: an entry of `COCOeval.evalImgs` for each image, None where it shows nothing.
        draws: (B, images), how often each image counts.

    Returns:
        (B, T), at each IoU threshold; NaN where a draw has no object.
    """
    there = [(image, record) for image, record in enumerate(records) if record is not None]
    if not there:
        return np.full((len(draws), 1), np.nan)
    scores = np.concatenate([record["dtScores"] for _, record in there])
    order = np.argsort(-scores, kind="stable")
    home = np.repeat([image for image, _ in there], [len(r["dtScores"]) for _, r in there])[order]
    matched = np.concatenate([r["dtMatches"] for _, r in there], axis=1)[:, order] > 0
    ignored = np.concatenate([r["dtIgnore"] for _, r in there], axis=1)[:, order].astype(bool)
    counted = np.array([int((r["gtIgnore"] == 0).sum()) for _, r in there])
    objects = draws[:, [image for image, _ in there]] @ counted
    weights = draws[:, home]
    each = [_areas(weights, m, i, objects) for m, i in zip(matched, ignored, strict=True)]
    return np.stack(each, axis=1)


def _areas(
    weights: Draws, matched: NDArray[np.bool_], ignored: NDArray[np.bool_], objects: Draws
) -> Values:
    """Return (B,) interpolated precision over 101 recalls, given (B, D) counts of detections.

    Between two matches precision only falls, so that its envelope lies on the matches alone.
    """
    hits = np.flatnonzero(matched & ~ignored)
    total = np.cumsum(weights * ~ignored if ignored.any() else weights, axis=1)[:, hits]
    right = np.cumsum(weights[:, hits], axis=1)
    precision = right / np.maximum(total, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    envelope = np.pad(envelope, ((0, 0), (0, 1)))
    recalls = np.linspace(0.0, 1.0, 101)
    areas = np.full(len(weights), np.nan)
    for row in np.flatnonzero(objects):
        at = np.searchsorted(right[row] / objects[row], recalls, side="left")
        areas[row] = envelope[row, at].mean()
    return areas
