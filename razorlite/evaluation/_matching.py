"""COCO's matching of detections to objects, equal to COCOeval.evaluateImg but many times faster.

COCOeval tries every pair at every threshold in Python. Few pairs overlap by even the lowest
threshold, so only those are tried here, with the same order and the same treatment of ties,
crowds and objects outside the size range.
"""

from typing import Any

import numpy as np

Entry = dict[str, Any]


def match_image(
    evaluator: Any, image: int, label: int, area_range: tuple[float, float], limit: int
) -> Entry | None:
    """Return what COCOeval.evaluateImg(image, label, area_range, limit) returns.

    Args:
        evaluator: a COCOeval whose truths, detections and IoUs are there.
        image, label: which of them.
        area_range: least and greatest area in square pixels; others are ignored.
        limit: how many of the best detections count.
    """
    truths, found = evaluator._gts[image, label], evaluator._dts[image, label]
    if not truths and not found:
        return None
    ignored = np.array([bool(t["ignore"]) or not _within(t["area"], area_range) for t in truths])
    order = np.argsort(ignored, kind="stable") if truths else np.zeros(0, dtype=int)
    best = np.argsort([-d["score"] for d in found], kind="stable")[:limit]
    chosen = [found[i] for i in best]
    truths = [truths[i] for i in order]
    thresholds = evaluator.params.iouThrs
    matches = _Matches(len(thresholds), chosen, truths, ignored[order] if len(order) else ignored)
    overlaps = evaluator.ious[image, label]
    if len(overlaps):
        matches.fill(overlaps[:, order], thresholds)
    return _record(matches, image, label, area_range, limit)


class _Matches:
    """Which detection has which object, at every threshold."""

    def __init__(
        self, thresholds: int, found: list[Entry], truths: list[Entry], ignored: np.ndarray
    ) -> None:
        self.found, self.truths, self.ignored = found, truths, ignored
        self.of_found = np.zeros((thresholds, len(found)))
        self.of_truth = np.zeros((thresholds, len(truths)))
        self.found_ignored = np.zeros((thresholds, len(found)))

    def fill(self, overlaps: np.ndarray, thresholds: np.ndarray) -> None:
        """Match by falling score, given (D, G) IoUs."""
        rows = _rivals(overlaps, float(min(thresholds)))
        crowd = [bool(truth["iscrowd"]) for truth in self.truths]
        ignored = [bool(flag) for flag in self.ignored]
        for t, threshold in enumerate(thresholds):
            taken = [False] * len(crowd)
            for index, rivals in rows:
                match = _choose(rivals, min(float(threshold), 1 - 1e-10), taken, crowd, ignored)
                if match >= 0:
                    taken[match] = True
                    self.of_found[t, index] = self.truths[match]["id"]
                    self.of_truth[t, match] = self.found[index]["id"]
                    self.found_ignored[t, index] = ignored[match]


def _choose(
    rivals: list[tuple[int, float]],
    least: float,
    taken: list[bool],
    crowd: list[bool],
    ignored: list[bool],
) -> int:
    """Return the object a detection matches, -1 for none; a counted object beats ignored ones."""
    match = -1
    for truth, overlap in rivals:
        if taken[truth] and not crowd[truth]:
            continue
        if match >= 0 and not ignored[match] and ignored[truth]:
            break
        if overlap >= least:
            least, match = overlap, truth
    return match


def _rivals(overlaps: np.ndarray, least: float) -> list[tuple[int, list[tuple[int, float]]]]:
    """Return, for each detection that overlaps any object enough, those objects in order."""
    rows: dict[int, list[tuple[int, float]]] = {}
    indices, truths = np.nonzero(overlaps >= min(least, 1 - 1e-10))
    values = overlaps[indices, truths].tolist()
    for index, truth, value in zip(indices.tolist(), truths.tolist(), values, strict=True):
        rows.setdefault(index, []).append((truth, value))
    return list(rows.items())


def _record(
    matches: _Matches, image: int, label: int, area_range: tuple[float, float], limit: int
) -> Entry:
    outside = np.array([not _within(d["area"], area_range) for d in matches.found], dtype=bool)
    unmatched = (matches.of_found == 0) & outside[None]
    return {
        "image_id": image,
        "category_id": label,
        "aRng": area_range,
        "maxDet": limit,
        "dtIds": [d["id"] for d in matches.found],
        "gtIds": [t["id"] for t in matches.truths],
        "dtMatches": matches.of_found,
        "gtMatches": matches.of_truth,
        "dtScores": [d["score"] for d in matches.found],
        "gtIgnore": matches.ignored.astype(int),
        "dtIgnore": np.logical_or(matches.found_ignored, unmatched),
    }


def _within(area: float, area_range: tuple[float, float]) -> bool:
    return not (area < area_range[0] or area > area_range[1])
