"""Which detections are right: COCO's matching at one IoU, as arrays to count with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from razorlite.evaluation._coco_entries import found_entries, truth_entries
from razorlite.evaluation.coco import matched
from razorlite.structures import Detections, Target

Sample = tuple[Target, Detections]  # of one image
Flags = NDArray[np.bool_]
MOST = 100  # detections of an image and class that count, as COCO has it


@dataclass(frozen=True)
class ImageMatches:
    """What became of an image's detections.

    Attributes:
        scores: (D,).
        labels: (D,).
        truth: (D,) the object that each detection has found, -1 for none.
        counted: (D,) whether it counts: among the best of its class and excused by no crowd.
        objects: (G,) labels of the objects.
        crowd: (G,) which of them only excuse detections.
    """

    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    truth: NDArray[np.int64]
    counted: Flags
    objects: NDArray[np.int64]
    crowd: Flags

    @property
    def right(self) -> Flags:
        """(D,) whether a detection has found an object that counts."""
        found: Flags = (self.truth >= 0) & self.counted
        return found


def match_images(
    samples: Sequence[Sample],
    classes: int,
    iou_threshold: float = 0.5,
    max_detections: int = MOST,
) -> list[ImageMatches]:
    """Match the detections of each image with the objects of their class, as COCO does.

    Args:
        samples: targets and detections in pixels of the same images.
        classes: number of classes.
        iou_threshold: least IoU of a detection that has found an object.
        max_detections: how many of the best detections of an image and class count.
    """
    items = [(truth_entries(t, "bbox"), found_entries(d, "bbox")) for t, d in samples]
    evaluator = matched(items, classes, "bbox", [max_detections], [iou_threshold])
    found = [_nothing(target, detections) for target, detections in samples]
    areas = len(evaluator.params.areaRng)
    for number, record in enumerate(evaluator.evalImgs):
        rest = number % (len(samples) * areas)  # classes come one after the other
        if record is not None and rest < len(samples):  # of any area
            _fill(found[rest], record)
    return found


def _nothing(target: Target, detections: Detections) -> ImageMatches:
    count = len(detections)
    crowd = np.zeros(len(target), bool) if target.crowd is None else target.crowd.cpu().numpy()
    return ImageMatches(
        scores=detections.scores.cpu().double().numpy(),
        labels=detections.labels.cpu().numpy(),
        truth=np.full(count, -1),
        counted=np.zeros(count, bool),
        objects=target.labels.cpu().numpy(),
        crowd=crowd,
    )


def _fill(found: ImageMatches, record: dict[str, NDArray[np.float64]]) -> None:
    """Enter one class of an image; ids are places, from 1."""
    places = np.asarray(record["dtIds"], dtype=int) - 1
    found.counted[places] = ~record["dtIgnore"][0].astype(bool)
    found.truth[places] = record["dtMatches"][0].astype(int) - 1


@dataclass(frozen=True)
class Curve:
    """Precision and recall of one class as the score that is asked for falls.

    Attributes:
        scores: (D,) falling.
        precision: (D,) of the detections with at least that score.
        recall: (D,).
        objects: how many there are to find.
    """

    scores: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    objects: int

    @property
    def f1(self) -> NDArray[np.float64]:
        """(D,) harmonic mean of precision and recall."""
        total = self.precision + self.recall
        values: NDArray[np.float64] = 2 * self.precision * self.recall / np.maximum(total, 1e-12)
        return values

    def best(self) -> dict[str, float]:
        """Return the `threshold` of the score with the highest F1, and what holds there.

        With no detection the threshold is 1 and all else 0.
        """
        if not len(self.scores) or not self.objects:
            return {"threshold": 1.0, "f1": 0.0, "precision": 0.0, "recall": 0.0}
        at = int(self.f1.argmax())
        return {
            "threshold": float(self.scores[at]),
            "f1": float(self.f1[at]),
            "precision": float(self.precision[at]),
            "recall": float(self.recall[at]),
        }


def curve(images: Sequence[ImageMatches], label: int | None = None) -> Curve:
    """Return the curve of a class, or of all detections together."""
    scores, right, objects = np.zeros(0), np.zeros(0, bool), 0
    for one in images:
        own = one.counted if label is None else one.counted & (one.labels == label)
        scores = np.append(scores, one.scores[own])
        right = np.append(right, one.right[own])
        sought = ~one.crowd if label is None else ~one.crowd & (one.objects == label)
        objects += int(sought.sum())
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(right[order])
    last = np.append(scores[1:] != scores[:-1], True)[: len(scores)]  # equal scores come together
    precision = hits / np.arange(1, len(scores) + 1)
    return Curve(scores[last], precision[last], hits[last] / max(1, objects), objects)


def average_precision(scores: NDArray[np.float64], right: Flags, objects: int) -> float:
    """Return COCO's average precision, over 101 recalls, of one class at one IoU; in [0, 1].

    Args:
        scores: (D,).
        right: (D,) whether each has found an object.
        objects: how many there are.
    """
    if not objects:
        return 0.0
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    at = np.searchsorted(hits / objects, np.linspace(0.0, 1.0, 101), side="left")
    return float(np.append(precision, 0.0)[at].mean())
