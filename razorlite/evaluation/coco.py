"""COCO's average precision and recall, by pycocotools, from tensors in memory."""

import contextlib
import io
from collections import Counter, defaultdict
from functools import partial
from typing import Any, Literal

import numpy as np

from razorlite.core.ranges import Count
from razorlite.core.registry import register
from razorlite.evaluation._checks import check_count, check_detections, names_of_labels
from razorlite.evaluation._coco_entries import (
    Entry,
    Kind,
    fingerprint,
    found_entries,
    truth_entries,
)
from razorlite.evaluation._matching import match_image
from razorlite.evaluation.metric import ClassNames, Metric, names_without_objects
from razorlite.evaluation.resampling import Draws, Values, coco_draws
from razorlite.structures import Detections, Target

_AREAS = ("all", "small", "medium", "large")
_Pair = tuple[list[Entry], list[Entry]]  # truths and detections of one image


@register()
class CocoMetric(Metric):
    """COCO's twelve metrics of boxes or masks: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ….

    Predictions and targets are in pixels of the original image. Crowd targets only excuse
    detections. Small, medium and large are known by a target's `area` where it has one (COCO's
    annotations do), else by its mask or box. A value without any object is -1.

    Args:
        classes: names of the labels for the values of single classes; numbers by default.
        per_class: add "AP/<name>" for every class to the metrics.
        kind: compare boxes ("bbox"), masks ("segm"), or both: the metrics of masks are then called
            "mask_AP", "mask_AP50", … and follow those of boxes.
        max_detections: how many of the best detections of an image and class count; 100 is COCO's
            own. Raise it, and the detector's `max_per_img`, for images with more objects. The
            largest of the recalls is named after it.
    """

    def __init__(
        self,
        *,
        classes: ClassNames | None = None,
        per_class: bool = False,
        kind: Literal["bbox", "segm", "both"] = "bbox",
        max_detections: Count = 100,
    ) -> None:
        super().__init__()
        self.classes, self.per_class, self.kind = classes, per_class, kind
        self.max_detections = max_detections
        # Truths are kept over resets, with what tells whether they are still the same.
        self._truths: list[tuple[bytes, dict[Kind, list[Entry]]]] = []

    def update(self, predictions: list[Detections], targets: list[Target]) -> None:
        """Take the detections of a batch and what its images show.

        Raises:
            DataError: masks are to be evaluated and the data have none.
            EvaluationError: there are more or fewer predictions than targets, or they are NaN or
                lack masks.
        """
        check_count(predictions, len(targets))
        for found, target in zip(predictions, targets, strict=True):
            check_detections(found)
            truths, found = self._truths_of(len(self.items), target), found.to("cpu")
            self.items.append({k: (truths[k], found_entries(found, k)) for k in self._kinds})

    def compute(self) -> dict[str, float]:
        """Return the twelve values of each kind, and those of single classes if asked for.

        Raises:
            DataError: there were no images, or a label beyond `classes`.
        """
        metrics: dict[str, float] = {}
        by_class: dict[str, float] = {}
        for kind in self._kinds:
            precision, recall = self._accumulate(kind)
            twelve = _twelve(precision, recall, self._limits)
            metrics |= {self._prefix(kind) + name: value for name, value in twelve.items()}
            by_class |= self._by_class(precision, kind)
        self._tell_limit()
        return {**metrics, **(by_class if self.per_class else {})}

    def by_class(self) -> list[dict[str, float]]:
        """Return AP, AP50, AP75, APs, APm and APl of boxes, of each class; -1 without objects."""
        precision, _ = self._accumulate(self._kinds[0])
        each = (precision[:, :, [label]] for label in range(len(self._names)))
        return [_precisions(own) for own in each]

    def resampled(self, draws: Draws) -> dict[str, Values]:
        """Return AP, AP50 and AP75 of the first kind on draws of images, matched once.

        Args:
            draws: (B, images), how often each image counts.
        """
        items = self._items_of(self._kinds[0])
        evaluator = matched(items, len(self._names), self._kinds[0], self._limits)
        images, areas = len(self.items), len(evaluator.params.areaRng)
        firsts = range(0, len(evaluator.evalImgs), images * areas)  # of each class, of any area
        found = [coco_draws(evaluator.evalImgs[i : i + images], draws) for i in firsts]
        whole = np.ma.masked_invalid(np.stack(np.broadcast_arrays(*found))).mean(0).filled(np.nan)
        return {"AP": whole.mean(axis=1), "AP50": whole[:, 0], "AP75": whole[:, 5]}

    def value_names(self) -> list[str]:
        """Return the names of the metrics; nothing where they hang on the labels seen."""
        return [] if self.per_class and not self.classes else names_without_objects(self)

    def per_class_ap(self) -> dict[str, float]:
        """Return "AP/<name>" for every class; -1 where there is no object of it."""
        metrics: dict[str, float] = {}
        for kind in self._kinds:
            metrics |= self._by_class(self._accumulate(kind)[0], kind)
        return metrics

    @property
    def _kinds(self) -> tuple[Kind, ...]:
        return ("bbox", "segm") if self.kind == "both" else (self.kind,)

    def _prefix(self, kind: Kind) -> str:
        return "mask_" if self.kind == "both" and kind == "segm" else ""

    @property
    def _limits(self) -> list[int]:
        """Numbers of detections by which recall is stated."""
        return sorted({min(limit, self.max_detections) for limit in (1, 10, self.max_detections)})

    def _truths_of(self, index: int, target: Target) -> dict[Kind, list[Entry]]:
        """Return an image's ground truth, kept from an earlier evaluation if it is the same."""
        target = target.to("cpu")
        mark = fingerprint(target, masks="segm" in self._kinds)
        if index < len(self._truths) and self._truths[index][0] == mark:
            return self._truths[index][1]
        truths = {kind: truth_entries(target, kind) for kind in self._kinds}
        self._truths[index:] = [(mark, truths)]
        return truths

    def _accumulate(self, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
        items = self._items_of(kind)
        return _pycocotools(items, len(self._names), kind, self._limits)

    def _items_of(self, kind: Kind) -> list[_Pair]:
        """Return the images' entries of a kind; the classes' names are known then."""
        items: list[_Pair] = [item[kind] for item in self.need_items()]
        labels = {entry["label"] for pair in items for entries in pair for entry in entries}
        self._names = names_of_labels(self.classes, labels, type(self).__name__)
        return items

    def _by_class(self, precision: np.ndarray, kind: Kind) -> dict[str, float]:
        return {
            f"{self._prefix(kind)}AP/{name}": _mean(precision[:, :, label, 0, -1])
            for label, name in enumerate(self._names)
        }

    def _tell_limit(self) -> None:
        """Say once that objects, or else detections, are beyond the limit."""
        pairs: list[_Pair] = [item[self._kinds[0]] for item in self.items]
        limit, images = self.max_detections, len(pairs)
        objects = [_most([t for t in truths if not t["iscrowd"]]) for truths, _ in pairs]
        over = [count for count in objects if count > limit]
        cut = sum(_most(found) > limit for _, found in pairs)
        if over:
            self.tell(
                "limit",
                f"CocoMetric: {len(over)} of {images} images show more than {limit} objects of one "
                f"class (up to {max(over)}), and only so many detections count: set "
                f"metric.max_detections and the detector's max_per_img to {max(over)} or more",
            )
        elif cut:
            self.tell(
                "limit",
                f"CocoMetric: of {cut} of {images} images only the {limit} best detections of a "
                f"class count (metric.max_detections; COCO takes 100)",
            )


def _most(entries: list[Entry]) -> int:
    """Return how many entries the most frequent class has."""
    return max(Counter(entry["label"] for entry in entries).values(), default=0)


def _pycocotools(
    items: list[_Pair], classes: int, kind: Kind, limits: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return COCOeval's precision (T, R, K, A, M) and recall (T, K, A, M)."""
    evaluator = matched(items, classes, kind, limits)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.accumulate()
    return evaluator.eval["precision"], evaluator.eval["recall"]


def matched(
    items: list[_Pair],
    classes: int,
    kind: Kind,
    limits: list[int],
    iou_thresholds: list[float] | None = None,
) -> Any:
    """Return a COCOeval that has matched the detections of all images.

    Args:
        items: objects and detections of each image.
        classes: how many.
        kind: what is compared.
        limits: how many of the best detections of an image and class count.
        iou_thresholds: COCO's ten by default.
    """
    from pycocotools.cocoeval import COCOeval

    evaluator = COCOeval(iouType=kind)
    if iou_thresholds is not None:
        evaluator.params.iouThrs = np.array(iou_thresholds)
    evaluator.params.imgIds = list(range(len(items)))
    evaluator.params.catIds = list(range(classes))
    evaluator.params.maxDets = limits
    truths, found = _by_image_and_class(items)
    evaluator._prepare = lambda: _prepare(evaluator, truths, found)  # no COCO json behind it
    evaluator.evaluateImg = partial(match_image, evaluator)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.evaluate()
    return evaluator


def _prepare(evaluator: Any, truths: Any, found: Any) -> None:
    evaluator._gts, evaluator._dts = truths, found
    evaluator.evalImgs, evaluator.eval = defaultdict(list), {}


def _by_image_and_class(items: list[_Pair]) -> tuple[Any, Any]:
    """Return truths and detections by (image, label), each with an id that is not 0."""
    both: tuple[Any, Any] = defaultdict(list), defaultdict(list)
    for index, pair in enumerate(items):
        for groups, entries in zip(both, pair, strict=True):
            for number, entry in enumerate(entries, start=1):
                entry["id"] = number  # unique in the image, which is all that matching needs
                groups[index, entry["label"]].append(entry)
    return both


def _precisions(precision: np.ndarray) -> dict[str, float]:
    """Return AP, AP50, AP75, APs, APm and APl of precision (T, R, K, A, M)."""
    metrics = {
        "AP": _mean(precision[:, :, :, 0, -1]),
        "AP50": _mean(precision[0, :, :, 0, -1]),
        "AP75": _mean(precision[5, :, :, 0, -1]),
    }
    return metrics | {
        f"AP{a[0]}": _mean(precision[:, :, :, i, -1]) for i, a in enumerate(_AREAS) if i
    }


def _twelve(precision: np.ndarray, recall: np.ndarray, limits: list[int]) -> dict[str, float]:
    metrics = _precisions(precision)
    metrics |= {f"AR{limit}": _mean(recall[:, :, 0, i]) for i, limit in enumerate(limits)}
    metrics |= {f"AR{a[0]}": _mean(recall[:, :, i, -1]) for i, a in enumerate(_AREAS) if i}
    return metrics


def _mean(values: np.ndarray) -> float:
    """Return the mean of the metrics that exist, -1 where none does."""
    there = values[values > -1]
    return float(there.mean()) if there.size else -1.0
