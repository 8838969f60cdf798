"""COCO's average precision and recall, by pycocotools, from tensors in memory."""

import contextlib
import io
from collections import defaultdict
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from razorlite.core.errors import DataError
from razorlite.core.registry import register
from razorlite.evaluation._matching import match_image
from razorlite.evaluation.metric import Metric, class_names, names_without_objects
from razorlite.structures import Detections, Target

_AREAS, _LIMITS = ("all", "small", "medium", "large"), (1, 10, 100)
_Pair = tuple[list[dict[str, Any]], list[dict[str, Any]]]  # truths and detections of one image


@register()
class CocoMetric(Metric):
    """COCO's twelve figures of boxes or masks: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ….

    Predictions and targets are in pixels of the original image. Crowd targets only excuse
    detections. Small, medium and large are told by a target's `area` where it has one (COCO's
    annotations do), else by its mask or box. A figure without any object to judge is -1.

    Args:
        classes: names of the labels for the figures of single classes; numbers by default.
        per_class: add "AP/<name>" for every class to the figures.
        kind: compare boxes ("bbox") or masks ("segm").
    """

    def __init__(
        self,
        *,
        classes: list[str] | None = None,
        per_class: bool = False,
        kind: Literal["bbox", "segm"] = "bbox",
    ) -> None:
        super().__init__()
        self.classes, self.per_class, self.kind = classes, per_class, kind
        self._truths: list[tuple[Target, list[dict[str, Any]]]] = []  # kept over resets

    def update(self, predictions: list[Detections], targets: list[Target]) -> None:
        """Take the detections of a batch and what its images show."""
        for found, target in zip(predictions, targets, strict=True):
            truths = self._truth_of(len(self.items), target)
            self.items.append((truths, _detections(found, self.kind)))

    def compute(self) -> dict[str, float]:
        """Return the twelve figures, and those of single classes if asked for.

        Raises:
            DataError: there were no images, or a label beyond `classes`.
        """
        precision, recall = self._accumulate()
        figures = _twelve(precision, recall)
        return {**figures, **(self._by_class(precision) if self.per_class else {})}

    def figure_names(self) -> list[str]:
        """Return the names of the figures; nothing where they hang on the labels seen."""
        return [] if self.per_class and not self.classes else names_without_objects(self)

    def per_class_ap(self) -> dict[str, float]:
        """Return "AP/<name>" for every class; -1 where there is no object of it."""
        return self._by_class(self._accumulate()[0])

    def _truth_of(self, place: int, target: Target) -> list[dict[str, Any]]:
        """Return an image's ground truth, kept from an earlier evaluation if it is the same."""
        target = target.to("cpu")
        if place < len(self._truths) and _same(self._truths[place][0], target):
            return self._truths[place][1]
        truths = _truths(target, self.kind)
        self._truths[place:] = [(target, truths)]
        return truths

    def _accumulate(self) -> tuple[np.ndarray, np.ndarray]:
        items: list[_Pair] = self.need_items()
        labels = [entry["label"] for pair in items for entries in pair for entry in entries]
        self._names = class_names(self.classes, max(labels, default=0))
        if labels and max(labels) >= len(self._names):
            raise DataError(
                f"CocoMetric has {len(self._names)} classes but met label {max(labels)}; "
                f"give it the classes of the data set"
            )
        return _pycocotools(items, len(self._names), self.kind)

    def _by_class(self, precision: np.ndarray) -> dict[str, float]:
        return {
            f"AP/{name}": _mean(precision[:, :, label, 0, 2])
            for label, name in enumerate(self._names)
        }


def _pycocotools(items: list[_Pair], classes: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return COCOeval's precision (T, R, K, A, M) and recall (T, K, A, M)."""
    from pycocotools.cocoeval import COCOeval

    judge = COCOeval(iouType=kind)
    judge.params.imgIds = list(range(len(items)))
    judge.params.catIds = list(range(classes))
    truths, found = _by_image_and_class(items)
    judge._prepare = lambda: _prepare(judge, truths, found)  # no COCO json behind it
    judge.evaluateImg = partial(match_image, judge)
    with contextlib.redirect_stdout(io.StringIO()):
        judge.evaluate()
        judge.accumulate()
    return judge.eval["precision"], judge.eval["recall"]


def _prepare(judge: Any, truths: Any, found: Any) -> None:
    judge._gts, judge._dts = truths, found
    judge.evalImgs, judge.eval = defaultdict(list), {}


def _by_image_and_class(items: list[_Pair]) -> tuple[Any, Any]:
    """Return truths and detections by (image, label), each with an id that is not 0."""
    both: tuple[Any, Any] = defaultdict(list), defaultdict(list)
    for place, pair in enumerate(items):
        for groups, entries in zip(both, pair, strict=True):
            for number, entry in enumerate(entries, start=1):
                entry["id"] = number  # unique in the image, which is all that matching needs
                groups[place, entry["label"]].append(entry)
    return both


def _truths(target: Target, kind: str) -> list[dict[str, Any]]:
    crowd = target.crowd if target.crowd is not None else torch.zeros(len(target)).bool()
    entries = _shapes(target.boxes, target.labels, target.masks, kind)
    if target.area is not None:
        for entry, area in zip(entries, target.area.tolist(), strict=True):
            entry["area"] = area
    for entry, is_crowd in zip(entries, crowd.tolist(), strict=True):
        entry["iscrowd"] = entry["ignore"] = int(is_crowd)
    return entries


def _detections(found: Detections, kind: str) -> list[dict[str, Any]]:
    found = found.to("cpu")
    masks = found.masks if kind == "segm" else None  # boxes are sized by their own area
    entries = _shapes(found.boxes, found.labels, masks, kind)
    for entry, score in zip(entries, found.scores.tolist(), strict=True):
        entry["score"] = score
    return entries


def _shapes(boxes: Tensor, labels: Tensor, masks: Tensor | None, kind: str) -> list[dict[str, Any]]:
    sides = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).double()
    areas = sides[:, 2] * sides[:, 3] if masks is None else masks.flatten(1).sum(1)
    entries = [
        {"label": label, "bbox": box, "area": float(area)}
        for label, box, area in zip(labels.tolist(), sides.tolist(), areas.tolist(), strict=True)
    ]
    if kind == "segm":
        for entry, rle in zip(entries, _run_lengths(masks), strict=True):
            entry["segmentation"] = rle
    return entries


def _run_lengths(masks: Tensor | None) -> list[dict[str, Any]]:
    from pycocotools import mask as coco_mask

    if masks is None:
        raise DataError("CocoMetric of kind segm wants masks, got only boxes; set kind: bbox")
    columns = np.asfortranarray(masks.permute(1, 2, 0).numpy().astype(np.uint8))
    return coco_mask.encode(columns)


def _same(one: Target, other: Target) -> bool:
    return vars(one).keys() == vars(other).keys() and all(
        torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a == b
        for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )


def _twelve(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    figures = {
        "AP": _mean(precision[:, :, :, 0, 2]),
        "AP50": _mean(precision[0, :, :, 0, 2]),
        "AP75": _mean(precision[5, :, :, 0, 2]),
    }
    figures |= {f"AP{a[0]}": _mean(precision[:, :, :, i, 2]) for i, a in enumerate(_AREAS) if i}
    figures |= {f"AR{limit}": _mean(recall[:, :, 0, i]) for i, limit in enumerate(_LIMITS)}
    figures |= {f"AR{a[0]}": _mean(recall[:, :, i, 2]) for i, a in enumerate(_AREAS) if i}
    return figures


def _mean(values: np.ndarray) -> float:
    """Return the mean of the figures that exist, -1 where none does."""
    there = values[values > -1]
    return float(there.mean()) if there.size else -1.0
