"""What a detector or a classifier gets wrong: the numbers behind `analyze` of predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from razorlite.core.errors import DataError
from razorlite.evaluation import (
    KINDS,
    CocoMetric,
    Curve,
    Reliability,
    Roc,
    box_confusion,
    curve,
    error_costs,
    find_errors,
    reliability,
    roc,
)
from razorlite.recipes.found import Boxes, Found, Probabilities

BACKGROUND = "background"


@dataclass(frozen=True)
class Quality:
    """What is right and wrong with predictions.

    Attributes:
        numbers: plain values, as the JSON has them.
        confusion: (N, N) counts, row: what is true.
        labels: names of its rows.
        reliability: of the scores.
        curves: of a detector, each class's precision and recall.
        rocs: of a classifier, those of the classes that have one.
        errors: of each image, how many.
    """

    numbers: dict[str, Any]
    confusion: NDArray[np.int64]
    labels: list[str]
    reliability: Reliability
    curves: dict[str, Curve]
    rocs: dict[str, Roc]
    errors: list[int]


def quality(found: Found) -> Quality:
    """Return what predictions get wrong.

    Raises:
        DataError: there are no images.
    """
    if not len(found.names):
        raise DataError("there are no images to analyze")
    return _of_boxes(found) if isinstance(found, Boxes) else _of_probabilities(found)


def _of_boxes(found: Boxes) -> Quality:
    count = len(found.classes)
    images = find_errors(found.samples, count, found.max_detections)
    matches = [one.matches for one in images]
    curves = {name: curve(matches, label) for label, name in enumerate(found.classes)}
    best = {name: one.best() for name, one in curves.items()}
    metric = CocoMetric(classes=list(found.classes), max_detections=found.max_detections)
    metric.update([d for _, d in found.samples], [t for t, _ in found.samples])
    metrics = metric.compute()
    thresholds = [best[name]["threshold"] for name in found.classes]
    scores = np.concatenate([one.scores[one.counted] for one in matches])
    right = np.concatenate([one.right[one.counted] for one in matches])
    trust = reliability(scores, right)
    classes = [
        {"name": name, "objects": curves[name].objects, **own, **best[name]}
        for name, own in zip(found.classes, metric.by_class(), strict=True)
    ]
    confusion = box_confusion(found.samples, count, score_threshold=thresholds)
    costs = error_costs(images, count)
    counts = np.bincount(np.concatenate([i.kinds[i.kinds >= 0] for i in images]), minlength=5)
    numbers = {
        "kind": "boxes",
        "images": len(images),
        "objects": sum(one.objects for one in curves.values()),
        "detections": len(scores),
        "max_detections": found.max_detections,
        "metrics": metrics,
        "classes": classes,
        "errors": {
            kind: {"count": number, "dAP": costs[kind]}
            for kind, number in zip(
                KINDS, [*map(int, counts), sum(int(i.missed.sum()) for i in images)], strict=True
            )
        },
    }
    errors = _wrong(found, np.array(thresholds))
    labels = [*found.classes, BACKGROUND]
    return _whole(numbers, found, confusion, labels, trust, errors, curves=curves)


def _wrong(found: Boxes, thresholds: NDArray[np.float64]) -> list[int]:
    """Return how many detections and objects of each image are wrong, at the best thresholds."""
    wrong = []
    for sample in found.samples:
        counts = box_confusion([sample], len(found.classes), score_threshold=thresholds.tolist())
        wrong.append(int(counts.sum() - counts.trace()))
    return wrong


def _of_probabilities(found: Probabilities) -> Quality:
    count, guesses = len(found.classes), found.values.argmax(axis=1)
    right = guesses == found.labels
    confusion = np.bincount(found.labels * count + guesses, minlength=count**2)
    confusion = confusion.reshape(count, count)
    trust = reliability(found.values.max(axis=1), right)
    curves = {
        name: roc(found.values[:, label], found.labels == label)
        for label, name in enumerate(found.classes)
    }
    rocs = {name: one for name, one in curves.items() if one is not None}
    classes = [
        {
            "name": name,
            "images": int(confusion[label].sum()),
            "recall": _share(confusion[label, label], confusion[label].sum()),
            "precision": _share(confusion[label, label], confusion[:, label].sum()),
            "AUC": rocs[name].area if name in rocs else None,
        }
        for label, name in enumerate(found.classes)
    ]
    numbers: dict[str, Any] = {"kind": "probabilities", "images": len(right)}
    numbers |= {"metrics": {"top1": float(right.mean())}, "classes": classes}
    sure = found.values[np.arange(len(right)), found.labels]
    errors = [0 if ok else round(100 * (1 - p)) for ok, p in zip(right, sure, strict=True)]
    return _whole(numbers, found, confusion, list(found.classes), trust, errors, rocs=rocs)


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _whole(
    numbers: dict[str, Any],
    found: Found,
    confusion: NDArray[np.int64],
    labels: list[str],
    trust: Reliability,
    errors: Sequence[int],
    curves: dict[str, Curve] | None = None,
    rocs: dict[str, Roc] | None = None,
) -> Quality:
    bins = zip(trust.counts.tolist(), trust.scores.tolist(), trust.right.tolist(), strict=True)
    numbers |= {
        "confusion": {"labels": labels, "counts": confusion.tolist()},
        "calibration": {
            "ECE": trust.error,
            "bins": [
                {"count": n, "score": None if n == 0 else s, "right": None if n == 0 else r}
                for n, s, r in bins
            ],
        },
        "worst": [{"image": found.names[i], "errors": errors[i]} for i in worst(errors)],
    }
    return Quality(numbers, confusion, labels, trust, curves or {}, rocs or {}, list(errors))


def worst(errors: Sequence[int], limit: int = 12) -> list[int]:
    """Return the images with the most errors, most first, at most so many; none without errors."""
    order = sorted(range(len(errors)), key=lambda i: -errors[i])
    return [i for i in order[:limit] if errors[i]]
