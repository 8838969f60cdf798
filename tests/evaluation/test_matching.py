"""The fast matching against COCOeval's own, on images full of ties, crowds and ignored objects."""

import contextlib
import io
from collections import defaultdict

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from razorlite.evaluation._matching import match_image


def boxes(rng, count, grid):
    """Boxes on a coarse grid, so that many IoUs are equal."""
    corners = rng.integers(0, 6, (count, 2)) * grid
    return np.concatenate([corners, rng.integers(1, 4, (count, 2)) * grid], 1).astype(float)


def evaluator_of(seed):
    rng = np.random.default_rng(seed)
    evaluator = COCOeval(iouType="bbox")
    evaluator.params.imgIds, evaluator.params.catIds = [0], [0]
    evaluator._gts, evaluator._dts = defaultdict(list), defaultdict(list)
    grid = int(rng.choice([6, 20, 40]))
    for number, box in enumerate(boxes(rng, rng.integers(0, 9), grid), start=1):
        crowd = int(rng.random() < 0.25)
        area = box[2] * box[3] * rng.uniform(0.5, 1)
        entry = {"id": number, "bbox": list(box), "area": area, "iscrowd": crowd, "ignore": crowd}
        evaluator._gts[0, 0].append(entry)
    for number, box in enumerate(boxes(rng, rng.integers(0, 25), grid), start=1):
        score = float(rng.integers(0, 4)) / 4
        entry = {"id": number, "bbox": list(box), "area": box[2] * box[3], "score": score}
        evaluator._dts[0, 0].append(entry)
    evaluator.ious = {(0, 0): evaluator.computeIoU(0, 0)}
    return evaluator


@pytest.mark.parametrize("seed", range(150))
def test_equals_cocoeval(seed):
    evaluator = evaluator_of(seed)
    for area_range in evaluator.params.areaRng:
        limit = 100 if seed % 3 else 5
        if limit < 100:  # COCOeval keeps only the best before it computes IoUs
            evaluator.params.maxDets = [limit]
            evaluator.ious = {(0, 0): evaluator.computeIoU(0, 0)}
        expected = evaluator.evaluateImg(0, 0, area_range, limit)
        got = match_image(evaluator, 0, 0, area_range, limit)
        if expected is None:
            assert got is None
            continue
        assert got is not None
        assert got.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(got[name], value, err_msg=name)


def test_metrics_equal_cocoeval():
    from razorlite.evaluation import coco

    rng = np.random.default_rng(0)
    items = []
    for seed in range(60):
        evaluator = evaluator_of(seed)
        pair = [
            [{**e, "label": int(rng.integers(3))} for e in part[0, 0]]
            for part in (evaluator._gts, evaluator._dts)
        ]
        items.append(tuple(pair))
    precision, recall = coco._pycocotools(items, 3, "bbox", [1, 10, 100])
    slow = COCOeval(iouType="bbox")
    slow.params.imgIds, slow.params.catIds = list(range(60)), [0, 1, 2]
    slow._prepare = lambda: coco._prepare(slow, *coco._by_image_and_class(items))
    with contextlib.redirect_stdout(io.StringIO()):
        slow.evaluate()
        slow.accumulate()
    np.testing.assert_array_equal(precision, slow.eval["precision"])
    np.testing.assert_array_equal(recall, slow.eval["recall"])
