"""The twelve metrics of masks on COCO's annotations, as pycocotools gives them from the file."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import tensor

from razorlite.evaluation import CocoMetric
from razorlite.structures import Detections, Target

IMAGES = 12


@pytest.mark.slow
def test_twelve_metrics_of_masks(test_data):
    """Found are the annotated masks, moved by 0 to 8 pixels, a tenth of them as another class."""
    truth = COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        truth.dataset = json.loads(
            (test_data / "coco_eval" / "instances_val2014_100.json").read_text()
        )
        truth.createIndex()
    ids = sorted(truth.imgs)[:IMAGES]
    order = {key: index for index, key in enumerate(sorted(truth.cats))}
    rng, metric, results = np.random.default_rng(0), CocoMetric(kind="segm"), []
    for key in ids:
        entries = truth.imgToAnns[key]
        masks = np.stack([truth.annToMask(entry) for entry in entries])
        moves = rng.integers(0, 9, len(entries))
        found = np.stack([np.roll(m, k, axis=1) for m, k in zip(masks, moves, strict=True)])
        scores, labels = rng.random(len(entries)), [order[e["category_id"]] for e in entries]
        guesses = [(k + 1) % 80 if rng.random() < 0.1 else k for k in labels]
        metric.update([_detections(found, scores, guesses)], [_target(entries, masks, labels)])
        results += [
            {
                "image_id": key,
                "category_id": sorted(truth.cats)[guess],
                "segmentation": coco_mask.encode(np.asfortranarray(one)),
                "score": float(score),
            }
            for one, score, guess in zip(found, scores, guesses, strict=True)
        ]
    known = _by_pycocotools(truth, results, ids)
    assert 0.3 < known[0] < 0.9
    assert list(metric.compute().values()) == [float(value) for value in known]


def _detections(masks: np.ndarray, scores: np.ndarray, labels: list[int]) -> Detections:
    boxes = torch.zeros(len(masks), 4)
    return Detections(boxes, tensor(scores), tensor(labels), torch.from_numpy(masks).bool())


def _target(entries: list[dict], masks: np.ndarray, labels: list[int]) -> Target:
    return Target(
        boxes=torch.zeros(len(masks), 4),
        labels=tensor(labels),
        crowd=tensor([bool(entry["iscrowd"]) for entry in entries]),
        area=tensor([entry["area"] for entry in entries], dtype=torch.float64),
        masks=torch.from_numpy(masks).bool(),
    )


def _by_pycocotools(truth: COCO, results: list[dict], ids: list[int]) -> np.ndarray:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(truth, truth.loadRes(results), "segm")
        evaluator.params.imgIds = ids
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats
