"""TIDE's errors, curves and confusion on three images, by hand."""

import numpy as np
import pytest
from torch import tensor

from razorlite.evaluation import box_confusion, curve, error_costs, find_errors, match_images
from razorlite.evaluation.coco import CocoMetric
from razorlite.evaluation.errors import KINDS
from razorlite.evaluation.matches import average_precision
from razorlite.structures import Detections, Target


def box(x: float, width: float = 10.0) -> list[float]:
    """Return a box 10 pixels high at x."""
    return [x, 0.0, x + width, 10.0]


def sample(objects, found, crowd=None):
    """Return target and detections from (box, label) and (box, score, label)."""
    boxes = tensor([one for one, _ in objects]).view(-1, 4)
    labels = tensor([label for _, label in objects]).long()
    flags = None if crowd is None else tensor(crowd)
    found = sorted(found, key=lambda one: -one[1])
    detections = Detections(
        tensor([one for one, _, _ in found]).view(-1, 4),
        tensor([score for _, score, _ in found]),
        tensor([label for _, _, label in found]).long(),
    )
    return Target(boxes, labels, flags, size=(10, 200), original_size=(10, 200)), detections


# Image 1: an object of class 0 found twice, one of class 1 taken for class 0.
# Image 2: an object of class 0 with a box that covers 10 of 30 pixels, one of class 1 not found.
# Image 3: nothing is there; detections of nothing.
SAMPLES = [
    sample([(box(0), 0), (box(50), 1)], [(box(0), 0.9, 0), (box(0, 9), 0.8, 0), (box(50), 0.7, 0)]),
    sample([(box(0), 0), (box(100), 1)], [(box(5), 0.6, 0)]),
    sample([], [(box(0), 0.5, 1)]),
]


def test_kinds_of_errors():
    first, second, third = find_errors(SAMPLES, 2)
    names = [KINDS[kind] for kind in first.kinds if kind >= 0]
    assert names == ["duplicate", "class"]
    assert [KINDS[kind] for kind in second.kinds] == ["localisation"]  # IoU 5 / 15
    assert [KINDS[kind] for kind in third.kinds] == ["background"]
    assert first.missed.tolist() == [False, False]  # the second has a detection of a wrong class
    assert second.missed.tolist() == [False, True]


def test_both_is_a_wrong_class_and_a_wrong_box():
    (found,) = find_errors([sample([(box(0), 0)], [(box(5), 0.5, 1)])], 2)
    assert [KINDS[kind] for kind in found.kinds] == ["both"]
    assert found.missed.tolist() == [True]


def test_what_errors_cost():
    """AP50 of class 0: detections right, wrong, wrong, wrong of 2 objects; class 1: none of 2.

    Precision is 1 up to recall 0.5, which 51 of 101 recalls are: AP 51 / 101 and 0, mean 51 / 202.
    """
    costs = error_costs(find_errors(SAMPLES, 2), 2)
    before = 51 / 202
    # The wrong class becomes class 1's, at 0.7 before that of nothing at 0.5: one of 2.
    assert costs["class"] == pytest.approx((51 / 101 + 51 / 101) / 2 - before)
    # The wrong box is right: hits at ranks 1 and 4, precision 1 and 2 / 4.
    assert costs["localisation"] == pytest.approx((51 + 50 * 0.5) / 101 / 2 - before)
    # One error less before or after the only hit changes nothing, nor does class 1's.
    assert costs["duplicate"] == costs["background"] == costs["both"] == 0
    # Without the missed object class 1 has one, which is still not found.
    assert costs["missed"] == 0


def test_a_missed_object_costs_recall():
    found = find_errors([sample([(box(0), 0), (box(50), 0)], [(box(0), 0.9, 0)])], 1)
    assert error_costs(found, 1)["missed"] == pytest.approx(1 - 51 / 101)


def test_a_class_that_is_missed_altogether_is_left_out_of_the_mean():
    found = find_errors([sample([(box(0), 0), (box(50), 1)], [(box(0), 0.9, 0)])], 2)
    assert error_costs(found, 2)["missed"] == pytest.approx(1 - 0.5)


def test_several_detections_of_one_wrong_class_mend_one_object():
    """The better becomes right, the other is left out: AP rises from 0 to 1."""
    found = find_errors([sample([(box(0), 0)], [(box(0), 0.9, 1), (box(0), 0.8, 1)])], 2)
    assert error_costs(found, 2)["class"] == 1.0


def test_crowds_excuse():
    """Of 3 detections one lies on a crowd; it neither counts nor is an error."""
    objects = [(box(0), 0), (box(50, 100), 0)]
    found = [(box(0), 0.9, 0), (box(60), 0.8, 0)]
    (image,) = find_errors([sample(objects, found, [False, True])], 1)
    assert (image.kinds < 0).all()
    assert image.matches.counted.tolist() == [True, False]
    assert not image.missed.any()


def test_average_precision_is_that_of_coco():
    rng = np.random.default_rng(0)
    samples = [
        sample(
            [(box(20.0 * i), 0) for i in range(5)],
            [(box(20.0 * i + rng.uniform(0, 6)), float(s), 0) for i, s in enumerate(rng.random(8))],
        )
        for _ in range(6)
    ]
    metric = CocoMetric()
    metric.update([found for _, found in samples], [target for target, _ in samples])
    images = match_images(samples, 1)
    scores = np.concatenate([one.scores for one in images])
    right = np.concatenate([one.right for one in images])
    assert average_precision(scores, right, 30) == pytest.approx(metric.compute()["AP50"])


def test_curve_and_best_threshold():
    """Of class 0: right, wrong, wrong, wrong of 2: F1 is 2 * 1 * 0.5 / 1.5 = 2 / 3 at 0.9."""
    found = curve(match_images(SAMPLES, 2), 0)
    np.testing.assert_allclose(found.precision, [1, 1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_allclose(found.recall, [0.5] * 4)
    best = found.best()
    assert best["threshold"] == pytest.approx(0.9)
    assert best["f1"] == pytest.approx(2 / 3)
    assert curve(match_images(SAMPLES, 3), 2).best()["f1"] == 0  # a class without anything


def test_equal_scores_come_together():
    found = curve(match_images([sample([(box(0), 0)], [(box(50), 0.5, 0), (box(0), 0.5, 0)])], 1))
    assert found.scores.tolist() == [0.5]
    assert found.precision.tolist() == [0.5]


def test_confusion_by_hand():
    """Rows are objects, columns detections, the last of both background."""
    counts = box_confusion(SAMPLES, 2, score_threshold=0.5)
    assert counts.tolist() == [[1, 0, 1], [1, 0, 1], [2, 1, 0]]
    only_good = box_confusion(SAMPLES, 2, score_threshold=[0.85, 0.1])
    assert only_good.tolist() == [[1, 0, 1], [0, 0, 2], [0, 1, 0]]


def test_values_of_single_classes():
    metric = CocoMetric(classes=["a", "b"])
    metric.update([found for _, found in SAMPLES], [target for target, _ in SAMPLES])
    first, second = metric.by_class()
    assert first["AP50"] == pytest.approx(51 / 101)
    assert second["AP50"] == 0
    assert first["APl"] == -1


def test_a_detection_inside_a_crowd_is_excused():
    """As COCO has it: by the share of the detection, not of both together."""
    crowded = sample([(box(0, 100), 0)], [(box(20), 0.9, 0), (box(97), 0.8, 0)], crowd=[True])
    assert box_confusion([crowded], 1, score_threshold=0.5).tolist() == [[0, 0], [1, 0]]
    [found] = match_images([crowded], 1)
    assert found.counted.tolist() == [False, True]
