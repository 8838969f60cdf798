"""Pascal VOC's average precision at one IoU."""

from typing import Literal

import numpy as np
import torch

from razorlite.core.ranges import NonNegative, PositiveShare
from razorlite.core.registry import register
from razorlite.evaluation._checks import check_count, check_detections, names_of_labels
from razorlite.evaluation.metric import ClassNames, Metric, names_without_objects
from razorlite.structures import Detections, Target

_Image = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]  # truths and detections of one image


@register()
class VocMetric(Metric):
    """Mean over classes of VOC's average precision: "mAP", and "AP/<name>" if asked for.

    Detections of a class are taken by falling score over all images. Each is compared with the
    truth it overlaps most: right if the IoU is at least `iou` and that truth was not found before,
    else wrong. Overlapping a difficult object (a target marked as crowd) is neither. Classes
    without objects are left out of the mean; mAP is -1 if there is no object at all.

    Args:
        classes: names of the labels; numbers by default.
        iou: least overlap.
        points: "all" integrates the precision envelope (VOC 2010 on); "11" averages it at recalls
            0, 0.1, …, 1 (VOC 2007).
        pixel_offset: added to widths and heights, 1 where boxes name first and last pixels.
        per_class: add the values of single classes.

    http://host.robots.ox.ac.uk/pascal/VOC/
    """

    def __init__(
        self,
        *,
        classes: ClassNames | None = None,
        iou: PositiveShare = 0.5,
        points: Literal["all", "11"] = "all",
        pixel_offset: NonNegative = 0.0,
        per_class: bool = False,
    ) -> None:
        super().__init__()
        self.classes, self.iou, self.points = classes, iou, points
        self.pixel_offset, self.per_class = pixel_offset, per_class

    def update(self, predictions: list[Detections], targets: list[Target]) -> None:
        """Take the detections of a batch and what its images show.

        Raises:
            EvaluationError: there are more or fewer predictions than targets, or they are NaN.
        """
        check_count(predictions, len(targets))
        for found, target in zip(predictions, targets, strict=True):
            check_detections(found)
            crowd = target.crowd if target.crowd is not None else torch.zeros(len(target)).bool()
            truths = {"boxes": target.boxes, "labels": target.labels, "difficult": crowd}
            guesses = {"boxes": found.boxes, "labels": found.labels, "scores": found.scores}
            self.items.append(
                tuple({k: v.cpu().numpy() for k, v in d.items()} for d in (truths, guesses))
            )

    def compute(self) -> dict[str, float]:
        """Return mAP, and the values of single classes if asked for.

        Raises:
            DataError: there were no images, or a label beyond `classes`.
        """
        single = self.per_class_ap()
        there = [value for value in single.values() if value > -1]
        metrics = {"mAP": float(np.mean(there)) if there else -1.0}
        return {**metrics, **(single if self.per_class else {})}

    def value_names(self) -> list[str]:
        """Return the names of the metrics; nothing where they hang on the labels seen."""
        return [] if self.per_class and not self.classes else names_without_objects(self)

    def per_class_ap(self) -> dict[str, float]:
        """Return "AP/<name>" for every class; -1 where there is no object of it."""
        items: list[_Image] = self.need_items()
        labels = {label for pair in items for d in pair for label in d["labels"].tolist()}
        names = names_of_labels(self.classes, labels, type(self).__name__)
        return {f"AP/{name}": self._class_ap(items, label) for label, name in enumerate(names)}

    def _class_ap(self, items: list[_Image], label: int) -> float:
        scores, right, wrong, total = [], [], [], 0
        for truths, guesses in items:
            chosen = truths["labels"] == label
            boxes, difficult = truths["boxes"][chosen], truths["difficult"][chosen]
            mine = guesses["labels"] == label
            order = np.argsort(-guesses["scores"][mine], kind="stable")
            verdict = self._match(guesses["boxes"][mine][order], boxes, difficult)
            scores.append(guesses["scores"][mine][order])
            right.append(verdict == 1)
            wrong.append(verdict == 0)
            total += int((~difficult).sum())
        order = np.argsort(-np.concatenate(scores), kind="stable")
        hits, misses = np.concatenate(right)[order], np.concatenate(wrong)[order]
        return self._area(np.cumsum(hits), np.cumsum(misses), total)

    def _match(self, found: np.ndarray, truths: np.ndarray, difficult: np.ndarray) -> np.ndarray:
        """Return 1 (right), 0 (wrong) or -1 (not counted) for an image's sorted detections."""
        verdict = np.zeros(len(found), dtype=np.int64)
        if len(truths) == 0:
            return verdict
        taken = np.zeros(len(truths), dtype=bool)
        for index, overlaps in enumerate(_ious(found, truths, self.pixel_offset)):
            best = int(overlaps.argmax())
            if overlaps[best] < self.iou:
                continue
            verdict[index] = -1 if difficult[best] else int(not taken[best])
            taken[best] = True
        return verdict

    def _area(self, hits: np.ndarray, misses: np.ndarray, total: int) -> float:
        """Return the area under the precision envelope over recall."""
        if total == 0:
            return -1.0
        recall = hits / total
        precision = hits / np.maximum(hits + misses, 1)
        if self.points == "11":
            tops = [precision[recall >= t].max(initial=0.0) for t in np.linspace(0, 1, 11)]
            return float(np.mean(tops))
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        return float((np.diff(recall, prepend=0.0) * envelope).sum())


def _ious(one: np.ndarray, other: np.ndarray, offset: float) -> np.ndarray:
    """Return the (N, M) IoUs of boxes whose sides are `offset` longer than their corners say."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    inner = np.clip(high - low + offset, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2] + offset).prod(axis=1) for boxes in (one, other)]
    ious: np.ndarray = inner / np.maximum(areas[0][:, None] + areas[1][None] - inner, 1e-12)
    return ious
