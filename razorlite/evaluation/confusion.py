"""Which classes a detector takes for which, and for background."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from razorlite.evaluation.matches import Sample
from razorlite.ops.boxes import area, pairwise_iou, pairwise_overlap


def box_confusion(
    samples: Sequence[Sample],
    classes: int,
    *,
    score_threshold: float | Sequence[float],
    iou_threshold: float = 0.5,
) -> NDArray[np.int64]:
    """Count what the objects of each class were detected as.

    Detections and objects of an image are paired whatever their classes, the pair with the highest
    IoU first. Crowds do not count, nor do detections of which as much lies on one, as in COCO.

    Args:
        samples: targets and detections in pixels of the same images.
        classes: C.
        score_threshold: lowest score of detections that count, one for all or one a class.
        iou_threshold: least IoU of a pair, and least share of a detection that lies on a crowd.

    Returns:
        (C + 1, C + 1) counts, row: class of the object, column: class of the detection; the last
        row are detections of nothing, the last column objects not detected.
    """
    least = np.broadcast_to(np.asarray(score_threshold, dtype=float), (classes,))
    counts = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    for target, found in samples:
        keep = found.scores.cpu().numpy() >= least[found.labels.cpu().numpy()]
        boxes, objects = found.boxes.double(), target.boxes.double()
        overlaps = pairwise_iou(boxes, objects).cpu().numpy()[keep]
        inside = pairwise_overlap(boxes, objects) / area(boxes)[:, None].clamp(min=1e-6)
        crowd = np.zeros(len(target), bool) if target.crowd is None else target.crowd.cpu().numpy()
        on_crowd = (inside.cpu().numpy()[keep][:, crowd] >= iou_threshold).any(axis=1)
        _count(
            counts,
            overlaps[:, ~crowd],
            found.labels.cpu().numpy()[keep],
            target.labels.cpu().numpy()[~crowd],
            iou_threshold,
            on_crowd,
        )
    return counts


def _count(
    counts: NDArray[np.int64],
    overlaps: NDArray[np.float64],
    found: NDArray[np.int64],
    objects: NDArray[np.int64],
    iou_threshold: float,
    excused: NDArray[np.bool_],
) -> None:
    free, sought = ~excused, np.ones(len(objects), bool)
    alone = np.ones(len(found), bool)
    for flat in np.argsort(-overlaps, axis=None, kind="stable"):
        i, j = np.unravel_index(flat, overlaps.shape)
        if overlaps[i, j] < iou_threshold:
            break
        if alone[i] and sought[j]:
            alone[i] = sought[j] = False
            counts[objects[j], found[i]] += 1
    classes = len(counts) - 1
    counts[-1, :-1] += np.bincount(found[alone & free], minlength=classes)
    counts[:-1, -1] += np.bincount(objects[sought], minlength=classes)
