"""The metrics of nuScenes' detection task, from plain lists of boxes.

https://arxiv.org/abs/1903.11027, section 3.1, in double precision. All positions are on the map.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Entry = Mapping[str, Any]

CLASSES = (
    *("car", "truck", "construction_vehicle", "bus", "trailer", "barrier"),
    *("motorcycle", "bicycle", "pedestrian", "traffic_cone"),
)
DISTANCES = (0.5, 1.0, 2.0, 4.0)
ERRORS = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")
_TP_DISTANCE = 2.0
_UNDEFINED = {
    "traffic_cone": {"attr_err", "vel_err", "orient_err"},
    "barrier": {"attr_err", "vel_err"},
}
_STEPS = np.linspace(0, 1, 101)  # of recall
_FIRST = 11  # the first step that counts, above a recall of 0.1
_LEAST_PRECISION = 0.1


@dataclass(frozen=True)
class Curve:
    """One class at one distance.

    Attributes:
        precision: (101,) over recall.
        confidence: (101,) likewise; 0 beyond the largest recall reached.
        errors: (101,) running means of each error likewise; none where nothing was matched.
    """

    precision: Numbers
    confidence: Numbers
    errors: Mapping[str, Numbers]

    @property
    def average_precision(self) -> float:
        """Area above a precision of 0.1, for recalls above 0.1, as a share of the whole."""
        above = np.clip(self.precision[_FIRST:] - _LEAST_PRECISION, 0, None)
        return float(above.mean() / (1 - _LEAST_PRECISION))

    def error(self, name: str) -> float:
        """Return an error's mean from a recall of 0.1 to the largest reached; 1 without any."""
        reached = np.flatnonzero(self.confidence)
        last = int(reached[-1]) if len(reached) else 0
        if last < _FIRST or name not in self.errors:
            return 1.0
        return float(self.errors[name][_FIRST : last + 1].mean())


def curve(
    truths: Mapping[str, Sequence[Entry]],
    results: Mapping[str, Sequence[Entry]],
    name: str,
    distance: float,
) -> Curve:
    """Match the boxes of a class, best first, and follow precision and errors over recall.

    Args:
        truths: by sample the boxes there are; see `projects.detr3d.NuScenesMetric`.
        results: by sample the boxes found.
        name: of the class.
        distance: metres between centres in the x-y plane below which a box counts as found.
    """
    free = {t: [b for b in boxes if b["detection_name"] == name] for t, boxes in truths.items()}
    total = sum(map(len, free.values()))
    found = [b for boxes in results.values() for b in boxes if b["detection_name"] == name]
    scores = [box["detection_score"] for box in found]
    order = sorted(range(len(found)), key=lambda i: (scores[i], i), reverse=True)
    pairs = [(found[i], _taken(found[i], free, distance)) for i in order]
    hits = np.array([truth is not None for _, truth in pairs], dtype=bool)
    if not total or not hits.any():
        return Curve(np.zeros(101), np.zeros(101), {})
    right, confidence = np.cumsum(hits).astype(float), np.array(scores, dtype=float)[order]
    recall = right / total
    precision = np.interp(_STEPS, recall, right / np.arange(1, len(hits) + 1), right=0)
    confidences = np.interp(_STEPS, recall, confidence, right=0)
    matched = [(box, truth) for box, truth in pairs if truth is not None]
    return Curve(precision, confidences, _errors(matched, confidence[hits], confidences, name))


def _taken(box: Entry, free: Mapping[str, list[Entry]], distance: float) -> Entry | None:
    """Return the nearest truth that is free, which then is no longer; None where it is too far."""
    left = free.get(box["sample_token"], [])
    if not left:
        return None
    ways = [math.dist(truth["translation"][:2], box["translation"][:2]) for truth in left]
    nearest = min(range(len(ways)), key=ways.__getitem__)
    return left.pop(nearest) if ways[nearest] < distance else None


def _errors(
    matched: Sequence[tuple[Entry, Entry]], scores: Numbers, confidences: Numbers, name: str
) -> dict[str, Numbers]:
    """Return each error's running mean over matches, at the confidences of the recall steps."""
    period = np.pi if name == "barrier" else 2 * np.pi
    rows = np.array([[*errors_of(box, truth, period)] for box, truth in matched])
    means = {error: _running_mean(rows[:, i]) for i, error in enumerate(ERRORS)}
    # interpolation wants rising scores; equal ones keep their order, so that all is turned round
    return {
        error: np.interp(confidences[::-1], scores[::-1], mean[::-1])[::-1]
        for error, mean in means.items()
    }


def errors_of(box: Entry, truth: Entry, period: float) -> tuple[float, ...]:
    """Return the five errors of a match, NaN where the truth does not tell."""
    turned = (yaw_of(truth["rotation"]) - yaw_of(box["rotation"]) + period / 2) % period
    attribute = truth["attribute_name"]
    return (
        math.dist(box["translation"][:2], truth["translation"][:2]),
        1 - _aligned_iou(box["size"], truth["size"]),
        abs(turned - period / 2),
        float(np.linalg.norm(_velocity(box) - _velocity(truth))),
        float(attribute != box["attribute_name"]) if attribute else np.nan,
    )


def yaw_of(rotation: Sequence[float]) -> float:
    """Return the angle of the turned x axis in the x-y plane, of a quaternion w, x, y, z."""
    w, x, y, z = rotation
    return float(np.arctan2(2 * (w * z + x * y), w * w + x * x - y * y - z * z))


def _velocity(box: Entry) -> Numbers:
    return np.array([np.nan if v is None else v for v in box["velocity"]], dtype=float)


def _aligned_iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the IoU of two boxes of (w, l, h) as if they had one centre and heading."""
    shared = float(np.prod(np.minimum(one, other)))
    return shared / (float(np.prod(one)) + float(np.prod(other)) - shared)


def _running_mean(values: Numbers) -> Numbers:
    """Return the means of all values up to each, undefined ones left out; all 1 without any."""
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    sums, counts = np.nancumsum(values), np.cumsum(known)
    means: Numbers = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    return means


@dataclass(frozen=True)
class Scores:
    """All metrics of the task.

    Attributes:
        precisions: by class and distance the average precisions.
        errors: by class and error; NaN where it is not defined for the class.
    """

    precisions: Mapping[str, Mapping[float, float]]
    errors: Mapping[str, Mapping[str, float]]

    @property
    def class_precisions(self) -> dict[str, float]:
        """By class, the mean over distances."""
        return {name: float(np.mean(list(aps.values()))) for name, aps in self.precisions.items()}

    @property
    def mean_precision(self) -> float:
        """mAP."""
        return float(np.mean(list(self.class_precisions.values())))

    def mean_error(self, name: str) -> float:
        """Return an error's mean over the classes that it is defined for; NaN without any."""
        known = [e[name] for e in self.errors.values() if not np.isnan(e[name])]
        return float(np.mean(known)) if known else float("nan")

    def detection_score(self) -> float:
        """NDS: five parts mAP, and one part for each error, of those that are defined."""
        errors = [e for e in map(self.mean_error, ERRORS) if not np.isnan(e)]
        total = 5 * self.mean_precision + sum(max(0.0, 1 - e) for e in errors)
        return total / (5 + len(errors))


def score(
    truths: Mapping[str, Sequence[Entry]],
    results: Mapping[str, Sequence[Entry]],
    classes: Sequence[str] = CLASSES,
    known_only: bool = False,
) -> Scores:
    """Return all metrics.

    Args:
        truths: by sample the boxes there are.
        results: by sample the boxes found.
        classes: names of the classes.
        known_only: leave out classes without any box, and errors that no box's truth defines.
    """
    boxes = [box for some in truths.values() for box in some]
    if known_only:
        classes = [c for c in classes if any(b["detection_name"] == c for b in boxes)]
    precisions, errors = {}, {}
    for name in classes:
        curves = {d: curve(truths, results, name, d) for d in (*DISTANCES, _TP_DISTANCE)}
        precisions[name] = {d: curves[d].average_precision for d in DISTANCES}
        undefined = set(_UNDEFINED.get(name, ()))
        if known_only:
            undefined |= _untold([b for b in boxes if b["detection_name"] == name])
        errors[name] = {
            e: np.nan if e in undefined else curves[_TP_DISTANCE].error(e) for e in ERRORS
        }
    return Scores(precisions, errors)


def _untold(boxes: Sequence[Entry]) -> set[str]:
    """Return the errors that no box's truth defines."""
    told = {
        "vel_err": any(None not in box["velocity"] for box in boxes),
        "attr_err": any(box["attribute_name"] for box in boxes),
    }
    return {name for name, any_told in told.items() if not any_told}
