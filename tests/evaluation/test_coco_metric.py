"""COCO's metrics: the published ones, by hand, and that nothing but the images matters."""

import json

import pytest
import torch
from torch import tensor

from razorlite.core.errors import ConfigError, DataError, EvaluationError
from razorlite.evaluation import CocoMetric
from razorlite.structures import Detections, Target

PUBLISHED = {
    "AP": 0.505,
    "AP50": 0.697,
    "AP75": 0.573,
    "APs": 0.586,
    "APm": 0.519,
    "APl": 0.501,
    "AR1": 0.387,
    "AR10": 0.594,
    "AR100": 0.595,
    "ARs": 0.640,
    "ARm": 0.566,
    "ARl": 0.564,
}


def xyxy(entries):
    boxes = torch.tensor([entry["bbox"] for entry in entries], dtype=torch.float64).reshape(-1, 4)
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def labels_of(entries, order):
    return torch.tensor([order[entry["category_id"]] for entry in entries], dtype=torch.int64)


def of_image(entries, key):
    return [entry for entry in entries if entry["image_id"] == key]


@pytest.fixture
def official(test_data):
    """Targets and detections of 100 COCO images, whose metrics are published."""
    folder = test_data / "coco_eval"
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    found = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    order = {c["id"]: i for i, c in enumerate(sorted(truth["categories"], key=lambda c: c["id"]))}
    targets, detections = [], []
    for key in sorted(image["id"] for image in truth["images"]):
        mine, guesses = of_image(truth["annotations"], key), of_image(found, key)
        targets.append(
            Target(
                boxes=xyxy(mine),
                labels=labels_of(mine, order),
                crowd=tensor([bool(entry["iscrowd"]) for entry in mine]),
                area=torch.tensor([entry["area"] for entry in mine], dtype=torch.float64),
            )
        )
        scores = torch.tensor([entry["score"] for entry in guesses], dtype=torch.float64)
        detections.append(Detections(xyxy(guesses), scores, labels_of(guesses, order)))
    return detections, targets


def test_published_metrics_are_reproduced(official, capfd):
    metric = CocoMetric()
    metric.update(*official)
    metrics = metric.compute()
    assert {name: round(value, 3) for name, value in metrics.items()} == PUBLISHED
    assert capfd.readouterr().out == ""


def test_without_stated_areas_only_the_metrics_by_size_change(official):
    detections, targets = official
    metric = CocoMetric()
    metric.update(detections, [Target(t.boxes, t.labels, t.crowd) for t in targets])
    metrics = {name: round(value, 3) for name, value in metric.compute().items()}
    sizeless = [name for name in PUBLISHED if name[-1] not in "sml"]
    assert [metrics[name] for name in sizeless] == [PUBLISHED[name] for name in sizeless]
    assert metrics["APm"] != PUBLISHED["APm"]  # a polygon is smaller than its box


def test_metrics_do_not_change_when_the_truth_is_kept(official):
    metric = CocoMetric()
    metric.update(*official)
    first = metric.compute()
    metric.reset()
    metric.update(*official)
    assert metric.compute() == first


def truth(boxes, labels, **kwargs):
    return Target(tensor(boxes).float().reshape(-1, 4), tensor(labels).long(), **kwargs)


def found(boxes, scores, labels):
    return Detections(
        tensor(boxes).float().reshape(-1, 4), tensor(scores).float(), tensor(labels).long()
    )


def metrics(detections, targets, **kwargs):
    metric = CocoMetric(**kwargs)
    metric.update(detections, targets)
    return metric.compute()


def test_a_changed_truth_is_not_taken_from_memory():
    metric, guess = CocoMetric(), found([[0, 0, 10, 10]], [0.9], [0])
    metric.update([guess], [truth([[0, 0, 10, 10]], [0])])
    assert metric.compute()["AP"] == pytest.approx(1.0)
    metric.reset()
    metric.update([guess], [truth([[20, 20, 30, 30]], [0])])
    assert metric.compute()["AP"] == 0.0


def test_one_right_and_one_missed():
    # Of two objects one is found exactly: precision 1 up to recall 0.5, which 51 of the 101 recall
    # points reach.
    result = metrics(
        [found([[0, 0, 10, 10]], [0.9], [0])], [truth([[0, 0, 10, 10], [40, 0, 60, 20]], [0, 0])]
    )
    assert result["AP"] == pytest.approx(51 / 101)
    assert result["AR100"] == pytest.approx(0.5)


def test_iou_of_a_half_counts_at_the_lowest_threshold_only():
    # 10 x 10 inside 20 x 10: IoU 0.5 reaches the first of ten thresholds.
    result = metrics([found([[0, 0, 10, 10]], [0.9], [0])], [truth([[0, 0, 20, 10]], [0])])
    assert result["AP50"] == pytest.approx(1.0)
    assert result["AP"] == pytest.approx(0.1)


def test_crowds_excuse_detections_and_are_no_objects():
    target = truth([[0, 0, 10, 10], [50, 50, 90, 90]], [0, 0], crowd=tensor([False, True]))
    guess = found([[0, 0, 10, 10], [55, 55, 60, 60], [70, 70, 75, 75]], [0.5, 0.9, 0.8], [0, 0, 0])
    assert metrics([guess], [target])["AP"] == pytest.approx(1.0)
    plain = truth([[0, 0, 10, 10], [50, 50, 90, 90]], [0, 0])
    assert metrics([guess], [plain])["AP"] < 0.3


def test_no_detections_is_zero_and_no_objects_is_minus_one():
    nothing = found([], [], [])
    assert metrics([nothing], [truth([[0, 0, 9, 9]], [0])])["AP"] == 0.0
    assert metrics([nothing], [truth([], [])])["AP"] == -1.0
    assert metrics([found([[0, 0, 9, 9]], [0.5], [0])], [truth([], [])])["AP"] == -1.0


def test_classes_have_names():
    target = truth([[0, 0, 10, 10], [40, 0, 60, 20]], [0, 1])
    guess = found([[0, 0, 10, 10], [40, 0, 60, 20]], [0.9, 0.9], [0, 0])
    result = metrics([guess], [target], classes=["cell", "plate", "rare"], per_class=True)
    assert result["AP/cell"] == pytest.approx(1.0)  # the wrong one comes after full recall
    assert result["AP/plate"] == 0.0
    assert result["AP/rare"] == -1.0
    assert result["AP"] == pytest.approx(0.5)


def test_masks_are_judged_as_masks():
    mask = torch.zeros(1, 20, 20, dtype=torch.bool)
    mask[:, 5:15, 5:15] = True
    left = mask.clone()
    left[:, :, 10:] = False  # half of the truth: IoU 0.5, in the box of the whole
    target = Target(tensor([[5.0, 5, 15, 15]]), tensor([0]), masks=mask)
    guess = Detections(tensor([[5.0, 5, 15, 15]]), tensor([0.9]), tensor([0]), left)
    assert metrics([guess], [target], kind="bbox")["AP"] == pytest.approx(1.0)
    assert metrics([guess], [target], kind="segm")["AP"] == pytest.approx(0.1)


def test_misuse_is_explained():
    with pytest.raises(DataError, match="got no images"):
        CocoMetric().compute()
    with pytest.raises(DataError, match="has 1 classes but met label 3"):
        metrics([found([], [], [])], [truth([[0, 0, 9, 9]], [3])], classes=["a"])
    with pytest.raises(DataError, match="has 1 classes but met label -1"):
        metrics([found([[0, 0, 9, 9]], [0.5], [-1])], [truth([[0, 0, 9, 9]], [0])], classes=["a"])
    with pytest.raises(DataError, match="the data have none; give the data set masks: true"):
        metrics([found([], [], [])], [truth([[0, 0, 9, 9]], [0])], kind="segm")
    masks = torch.ones(1, 9, 9, dtype=torch.bool)
    with pytest.raises(EvaluationError, match="the model predicts only boxes"):
        metrics([found([], [], [])], [truth([[0, 0, 9, 9]], [0], masks=masks)], kind="both")
    with pytest.raises(ConfigError, match="without repeats"):
        CocoMetric(classes=["a", "b", "a"])
    with pytest.raises(EvaluationError, match="returned 1 results for 2 images"):
        metrics([found([], [], [])], [truth([[0, 0, 9, 9]], [0])] * 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_predictions_that_are_no_numbers_are_refused(value):
    target = truth([[0, 0, 9, 9]], [0])
    for guess in (
        found([[0, 0, 9, 9], [0, value, 9, 9]], [0.5, 0.4], [0, 0]),
        found([[0, 0, 9, 9], [0, 0, 9, 9]], [0.5, value], [0, 0]),
    ):
        with pytest.raises(EvaluationError, match=r"1 of 2 (boxes|scores) .* are NaN or infinite"):
            metrics([guess], [target])


def test_inverted_boxes_count_as_wrong():
    # The wrong one comes first: precision 1/2 at full recall.
    guess = found([[9, 9, 5, 0], [0, 0, 10, 10]], [0.9, 0.8], [0, 0])
    assert metrics([guess], [truth([[0, 0, 10, 10]], [0])])["AP"] == pytest.approx(0.5)


def grid(count):
    """Boxes of 30 pixels that do not touch."""
    return [[x * 40, y * 40, x * 40 + 30, y * 40 + 30] for y in range(count) for x in range(20)]


class TestMaxDetections:
    def images(self, rows=20, labels=0):
        boxes = grid(rows)
        count = [labels] * len(boxes)
        return [found(boxes, [0.9] * len(boxes), count)], [truth(boxes, count)]

    def test_coco_counts_a_hundred_and_that_is_told_once(self, caplog):
        metric = CocoMetric()
        for _ in range(2):
            metric.reset()
            metric.update(*self.images())
            result = metric.compute()
        assert result["AR100"] == pytest.approx(0.25)
        assert result["AP"] == pytest.approx(26 / 101)  # of recalls 0, 0.01, …, 0.25
        (line,) = caplog.records
        assert (
            "1 of 1 images show more than 100 objects of one class (up to 400)" in line.getMessage()
        )
        assert "metric.max_detections" in line.getMessage()

    def test_more_may_count(self, caplog):
        result = metrics(*self.images(), max_detections=400)
        assert result["AP"] == pytest.approx(1.0)
        assert list(result)[6:9] == ["AR1", "AR10", "AR400"]
        assert not caplog.records

    def test_fewer_may_count(self):
        result = metrics(*self.images(rows=1), max_detections=5)
        assert [result["AR1"], result["AR5"]] == pytest.approx([0.05, 0.25])
        assert "AR10" not in result
        with pytest.raises(ConfigError, match="max_detections"):
            CocoMetric(max_detections=0)

    def test_detections_alone_beyond_the_limit_are_told(self, caplog):
        guesses, _ = self.images(rows=6)
        metrics(guesses, [truth([[0, 0, 30, 30]], [0])])
        (line,) = caplog.records
        assert "of 1 of 1 images only the 100 best detections of a class count" in line.getMessage()

    def test_a_hundred_of_each_class_is_no_more_than_a_hundred(self, caplog):
        boxes = grid(10)
        labels = [place % 2 for place in range(200)]
        result = metrics([found(boxes, [0.9] * 200, labels)], [truth(boxes, labels)])
        assert result["AP"] == pytest.approx(1.0)
        assert not caplog.records


def test_boxes_and_masks_together_are_as_each_alone():
    mask = torch.zeros(1, 20, 20, dtype=torch.bool)
    mask[:, 5:15, 5:15] = True
    left = mask.clone()
    left[:, :, 10:] = False
    target = Target(tensor([[5.0, 5, 15, 15]]), tensor([0]), masks=mask)
    guess = Detections(tensor([[5.0, 5, 15, 15]]), tensor([0.9]), tensor([0]), left)
    parts = {
        kind: metrics([guess], [target], kind=kind, classes=["a/b"], per_class=True)
        for kind in ("bbox", "segm", "both")
    }
    masks = {f"mask_{name}": value for name, value in parts["segm"].items()}
    assert parts["both"] == {**parts["bbox"], **masks}
    assert list(parts["both"])[:2] == ["AP", "AP50"]
    assert parts["both"]["mask_AP"] == pytest.approx(0.1)
    metric = CocoMetric(kind="both", classes=["a/b"])
    metric.update([guess], [target])
    assert list(metric.per_class_ap()) == ["AP/a/b", "mask_AP/a/b"]
    assert "mask_AP50" in CocoMetric(kind="both").value_names()


def test_a_changed_mask_is_not_taken_from_memory():
    mask = torch.zeros(1, 20, 20, dtype=torch.bool)
    mask[:, 5:15, 5:15] = True
    metric = CocoMetric(kind="segm")
    guess = Detections(tensor([[5.0, 5, 15, 15]]), tensor([0.9]), tensor([0]), mask)
    for known, expected in ((mask, 1.0), (~mask, 0.0)):
        metric.reset()
        metric.update([guess], [Target(tensor([[5.0, 5, 15, 15]]), tensor([0]), masks=known)])
        assert metric.compute()["AP"] == pytest.approx(expected)
