"""Calibration and ROC by hand."""

import numpy as np
import pytest

from razorlite.evaluation import reliability, roc


def test_calibration_error_by_hand():
    """Bin 0.2: 0.2 and 0.3 mean 0.25, half right; bin 0.9: 0.9 and 1.0 mean 0.95, both right.

    Bins are [0.2, 0.4) and [0.8, 1]: gaps 0.25 and 0.05, each of 2 of 4 scores: 0.15.
    """
    found = reliability(np.array([0.2, 0.3, 0.9, 1.0]), np.array([True, False, True, True]), bins=5)
    assert found.counts.tolist() == [0, 2, 0, 0, 2]
    assert found.error == pytest.approx(0.15)
    assert np.isnan(found.scores[0])


def test_no_scores_have_no_error():
    assert reliability(np.zeros(0), np.zeros(0, bool)).error == 0


def test_roc_by_hand():
    """Pairs of positive and negative: 0.9 beats both, 0.4 ties one and loses to none: 3.5 of 4."""
    found = roc(np.array([0.9, 0.4, 0.4, 0.1]), np.array([True, True, False, False]))
    assert found.area == pytest.approx(3.5 / 4)
    np.testing.assert_allclose(found.false, [0, 0, 0.5, 1])
    np.testing.assert_allclose(found.true, [0, 0.5, 1, 1])


def test_area_is_the_chance_of_a_higher_score():
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 9, 60) / 9, rng.random(60) < 0.4
    pairs = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    assert roc(scores, positive).area == pytest.approx(np.mean(pairs))


def test_one_class_alone_has_no_roc():
    assert roc(np.array([0.5, 0.6]), np.array([True, True])) is None
