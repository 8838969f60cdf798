"""Metrics on draws of images."""

import numpy as np
import pytest
import torch

from razorlite.evaluation import Accuracy, CocoMetric, VocMetric, image_draws, interval
from razorlite.evaluation.metric import Metric
from razorlite.structures import Detections, Target


def scene(seed: int, images: int = 12) -> tuple[list[Detections], list[Target]]:
    """Return detections near some of the objects, and some that are nowhere near, no two alike."""
    rng = np.random.default_rng(seed)
    found, targets = [], []
    for _ in range(images):
        boxes = rng.uniform(0, 50, (rng.integers(0, 4), 2))
        boxes = torch.tensor(np.hstack([boxes, boxes + 20])).float()
        labels = torch.tensor(rng.integers(0, 2, len(boxes)))
        crowd = torch.tensor(rng.random(len(boxes)) < 0.2)
        extra = torch.tensor([[70.0, 70, 90, 90]] * 2)
        guesses = torch.cat([boxes + torch.tensor(rng.normal(0, 2, boxes.shape)).float(), extra])
        guessed = torch.cat([labels, torch.tensor([0, 1])])
        found.append(Detections(guesses, torch.tensor(rng.random(len(guesses))).float(), guessed))
        targets.append(
            Target(boxes, labels, crowd=crowd, size=(100, 100), original_size=(100, 100))
        )
    return found, targets


@pytest.mark.parametrize("seed", range(3))
def test_coco_draws_equal_evaluating_the_drawn_images(seed):
    metric = CocoMetric(classes=["a", "b"])
    metric.update(*scene(seed))
    draws = image_draws(12, 6, seed)
    fast, slow = metric.resampled(draws), Metric.resampled(metric, draws)
    for name in ("AP", "AP50", "AP75"):
        np.testing.assert_allclose(fast[name], slow[name], atol=1e-12)
    once = metric.resampled(np.ones((1, 12), dtype=np.int64))
    assert once["AP"][0] == pytest.approx(metric.compute()["AP"], abs=1e-12)


def test_a_class_without_objects_in_a_draw_does_not_count():
    metric = CocoMetric(classes=["a", "b"])
    metric.update(*scene(0, 4))
    nothing = np.zeros((1, 4), dtype=np.int64)
    assert np.isnan(metric.resampled(nothing)["AP"]).all()


def test_other_metrics_are_computed_on_each_draw():
    metric = VocMetric(classes=["a", "b"])
    metric.update(*scene(1))
    twice = np.full((1, 12), 2, dtype=np.int64)
    assert metric.resampled(twice)["mAP"][0] == pytest.approx(metric.compute()["mAP"])
    top = Accuracy()
    top.update(torch.eye(2)[[0, 1, 1]], torch.tensor([0, 0, 1]))
    draws = np.array([[1, 0, 2], [0, 3, 0], [1, 1, 1]])
    key = next(iter(top.compute()))
    np.testing.assert_allclose(top.resampled(draws)[key], [1, 0, 2 / 3])


def test_draws_have_as_many_images_and_are_the_same_each_time():
    draws = image_draws(30, 50)
    assert draws.shape == (50, 30)
    assert (draws.sum(axis=1) == 30).all()
    assert (draws == image_draws(30, 50)).all()


def test_interval_is_the_middle_of_the_values():
    assert interval(np.arange(101.0), 0.9) == pytest.approx((5.0, 95.0))
