"""VOC's average precision: published metrics, by hand, difficult objects."""

import pytest
import torch
from torch import tensor

from razorlite.core.errors import ConfigError, DataError, EvaluationError
from razorlite.evaluation import VocMetric
from razorlite.structures import Detections, Target


def rows(file):
    return [[float(v) for v in line.split()[1:]] for line in file.read_text().splitlines() if line]


def corners(values):
    boxes = torch.tensor(values).reshape(-1, 4)
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def zeros(count):
    return torch.zeros(count, dtype=torch.int64)


@pytest.mark.parametrize(("points", "published"), [("all", 0.24569), ("11", 0.26840)])
def test_published_metrics_are_reproduced(test_data, points, published):
    folder = test_data / "coco_eval" / "voc_ap_rafaelpadilla"
    metric = VocMetric(iou=0.3, points=points, pixel_offset=1.0)
    for file in sorted((folder / "groundtruths").iterdir()):
        truths, found = rows(file), rows(folder / "detections" / file.name)
        target = Target(corners(truths), zeros(len(truths)))
        scores = torch.tensor([row[0] for row in found])
        guess = Detections(corners([row[1:] for row in found]), scores, zeros(len(found)))
        metric.update([guess], [target])
    assert metric.compute()["mAP"] == pytest.approx(published, abs=5e-6)


def metrics(boxes, scores, truths, difficult=None, **kwargs):
    metric = VocMetric(**kwargs)
    guess = Detections(tensor(boxes).float(), tensor(scores), zeros(len(boxes)))
    crowd = None if difficult is None else tensor(difficult)
    metric.update([guess], [Target(tensor(truths).float(), zeros(len(truths)), crowd)])
    return metric.compute()["mAP"]


TWO = [[0, 0, 10, 10], [20, 0, 30, 10]]


def test_a_second_detection_of_an_object_is_wrong():
    # by score: right, wrong (the object is taken), right: precision 1, 1/2, 2/3 at recall 1/2, 1
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]]
    assert metrics(boxes, [0.9, 0.8, 0.7], TWO) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_eleven_points_take_the_best_precision_to_the_right():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]]
    expected = (6 * 1 + 5 * 2 / 3) / 11  # recalls 0 to 0.5 at 1, 0.6 to 1 at 2/3
    assert metrics(boxes, [0.9, 0.8, 0.7], TWO, points="11") == pytest.approx(expected)


def test_difficult_objects_are_neither_right_nor_wrong():
    boxes = [[20, 0, 30, 10], [20, 0, 30, 9], [0, 0, 10, 10]]
    assert metrics(boxes, [0.9, 0.8, 0.7], TWO, difficult=[False, True]) == pytest.approx(1.0)
    # without the mark: right, wrong, right, as above
    assert metrics(boxes, [0.9, 0.8, 0.7], TWO) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_pixel_offset_widens_boxes():
    # [0, 9] and [0, 4] along x hold 10 and 5 pixels: IoU 1/2 with the offset, 4/9 without
    one, other = [[0, 0, 4, 9]], [[0, 0, 9, 9]]
    assert metrics(one, [0.9], other, pixel_offset=1.0) == pytest.approx(1.0)
    assert metrics(one, [0.9], other) == 0.0


def test_nothing_to_find_and_nothing_found():
    none = torch.zeros(0, 4)
    metric = VocMetric(classes=["a", "b"], per_class=True)
    empty = Detections(none, torch.zeros(0), zeros(0))
    metric.update([empty], [Target(tensor([[0.0, 0, 5, 5]]), tensor([1]))])
    assert metric.compute() == {"mAP": 0.0, "AP/a": -1.0, "AP/b": 0.0}


def test_misuse_is_explained():
    with pytest.raises(DataError, match="got no images"):
        VocMetric().compute()
    with pytest.raises(ConfigError, match="iou wants a number above 0 and at most 1, got 0"):
        VocMetric(iou=0.0)


def test_what_cannot_be_judged_is_refused():
    box = [[0.0, 0, 10, 10]]
    metric, target = VocMetric(classes=["a"]), Target(tensor(box), zeros(1))
    with pytest.raises(EvaluationError, match=r"1 of 1 scores .* are NaN or infinite"):
        metric.update([Detections(tensor(box), tensor([torch.nan]), zeros(1))], [target])
    with pytest.raises(EvaluationError, match="returned 0 results for 1 images"):
        metric.update([], [target])
    for label in (1, -1):  # judged as no class at all, they would vanish
        metric.reset()
        metric.update([Detections(tensor(box), tensor([0.5]), tensor([label]))], [target])
        with pytest.raises(DataError, match=f"has 1 classes but met label {label}"):
            metric.compute()
