"""What kinds of errors cost a detector how much: TIDE, https://arxiv.org/abs/2008.08115."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from razorlite.evaluation.matches import MOST, ImageMatches, Sample, average_precision, match_images
from razorlite.ops.boxes import pairwise_iou

KINDS = ("class", "localisation", "both", "duplicate", "background", "missed")
_FOREGROUND, _BACKGROUND = 0.5, 0.1  # section 3.1: IoU of a right box, and of one with anything

Rows = list[tuple[int, float, bool]]  # label, score and whether it is right


@dataclass(frozen=True)
class ImageErrors:
    """The errors in one image.

    Attributes:
        matches: what is right in it.
        kinds: (D,) position in `KINDS` of each wrong detection's error, -1 of right ones.
        meant: (D,) the object that a wrong class or box belongs to, -1 for none.
        missed: (G,) objects that no detection has found, nor one with a wrong class or box.
    """

    matches: ImageMatches
    kinds: NDArray[np.int64]
    meant: NDArray[np.int64]
    missed: NDArray[np.bool_]


def find_errors(
    samples: Sequence[Sample], classes: int, max_detections: int = MOST
) -> list[ImageErrors]:
    """Return the errors of each image at an IoU of 0.5 (section 3.2).

    Args:
        samples: targets and detections in pixels of the same images.
        classes: number of classes.
        max_detections: how many of the best detections of an image and class count.
    """
    matched = match_images(samples, classes, _FOREGROUND, max_detections)
    return [_errors(sample, one) for sample, one in zip(samples, matched, strict=True)]


def error_costs(images: Sequence[ImageErrors], classes: int) -> dict[str, float]:
    """Return how much AP at IoU 0.5 the errors of each kind cost: dAP (section 3.3, eq. 2).

    Args:
        images: as `find_errors` returns them.
        classes: number of classes.

    Returns:
        Each of `KINDS` to the AP with its errors put right, less the AP, in [0, 1].
    """
    objects = np.zeros(classes, int)
    for image in images:
        objects += np.bincount(image.matches.objects[~image.matches.crowd], minlength=classes)
    present = objects > 0
    found = [row for image in images for row in _rows(image)]
    before = _mean_ap(found, objects, present)
    costs = {}
    for kind, name in enumerate(KINDS[:-1]):
        better = [row for image in images for row in _rows(image, kind)]
        costs[name] = _mean_ap(better, objects, present) - before
    fewer = objects.copy()
    for image in images:
        fewer -= np.bincount(image.matches.objects[image.missed], minlength=classes)
    costs["missed"] = _mean_ap(found, fewer, present) - before
    return costs


def _errors(sample: Sample, matches: ImageMatches) -> ImageErrors:
    target, detections = sample
    overlaps = pairwise_iou(detections.boxes.double(), target.boxes.double()).cpu().numpy()
    overlaps[:, matches.crowd] = 0.0
    same = matches.labels[:, None] == matches.objects[None]
    used = np.zeros(len(target), bool)
    used[matches.truth[matches.right]] = True
    kinds, meant = np.full(len(matches.scores), -1), np.full(len(matches.scores), -1)
    for i in np.flatnonzero(matches.counted & ~matches.right):
        kinds[i], meant[i] = _kind(overlaps[i], same[i])
    covered = used.copy()
    covered[meant[meant >= 0]] = True
    return ImageErrors(matches, kinds, meant, ~covered & ~matches.crowd)


def _kind(overlaps: NDArray[np.float64], same: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the kind of a wrong detection's error, and the object that it means.

    Where its box is right and its class is, too, a better detection has found the object.
    """
    own = np.where(same, overlaps, 0.0)
    other = np.where(same, 0.0, overlaps)
    best, best_other = own.max(initial=0.0), other.max(initial=0.0)
    if _BACKGROUND <= best < _FOREGROUND:
        return KINDS.index("localisation"), int(own.argmax())
    if best_other >= _FOREGROUND:
        return KINDS.index("class"), int(other.argmax())
    if best >= _FOREGROUND:
        return KINDS.index("duplicate"), -1
    if max(best, best_other) < _BACKGROUND:
        return KINDS.index("background"), -1
    return KINDS.index("both"), -1


def _rows(image: ImageErrors, fixed: int = -1) -> Rows:
    """Return the detections that count, with the errors of one kind put right.

    A wrong class or box becomes the right one of its object, unless that is found already, or by a
    better one of these; every other error of that kind is left out (section 3.3).
    """
    matches = image.matches
    rows: Rows = []
    taken = {int(t) for t in matches.truth[matches.right]}
    for i in np.argsort(-matches.scores, kind="stable"):
        if not matches.counted[i]:
            continue
        label, score = int(matches.labels[i]), float(matches.scores[i])
        if fixed < 0 or image.kinds[i] != fixed:
            rows.append((label, score, bool(matches.right[i])))
        elif (meant := int(image.meant[i])) >= 0 and meant not in taken:
            taken.add(meant)
            rows.append((int(matches.objects[meant]), score, True))
    return rows


def _mean_ap(rows: Rows, objects: NDArray[np.int64], present: NDArray[np.bool_]) -> float:
    """Return the mean of AP at IoU 0.5 over classes that are there, objects or detections left."""
    labels = np.array([label for label, _, _ in rows], int)
    scores = np.array([score for _, score, _ in rows])
    right = np.array([flag for _, _, flag in rows], bool)
    each = [
        average_precision(scores[labels == k], right[labels == k], int(objects[k]))
        for k in np.flatnonzero(present)
        if objects[k] or (labels == k).any()
    ]
    return float(np.mean(each)) if each else 0.0
