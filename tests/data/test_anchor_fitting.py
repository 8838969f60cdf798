"""Anchors fitted to boxes."""

import numpy as np
import pytest

from razorlite.data.anchor_fitting import Anchors, best_ious, cluster, fit_anchors, measure


def boxes(*shapes, centre=(64, 64), count=30, spread=0.05):
    """Return boxes around a corner of cells, of several shapes that vary a little."""
    rng = np.random.default_rng(1)
    sides = np.concatenate([s * rng.normal(1, spread, (count, 2)) for s in np.array(shapes)])
    return np.concatenate([centre - sides / 2, centre + sides / 2], 1)


def test_best_iou_by_hand():
    anchors = Anchors((16,), (1.0,), (1.0,))  # 16 x 16 around corners of 16 x 16 cells
    found = best_ious(np.array([[8.0, 8, 24, 24], [8, 8, 24, 16], [12, 8, 28, 24]]), anchors)
    # at a corner; half of it, inside; shifted by 4: 12 * 16 of 2 * 256 - 12 * 16
    assert found.tolist() == pytest.approx([1.0, 0.5, 0.6])


def test_shapes_are_those_of_the_generator():
    anchors = Anchors((8, 16), (2.0, 4.0), (0.25, 1.0))
    assert anchors.shapes[0].tolist() == [32, 8, 8]  # 2 strides of 8, twice as wide, half as high
    assert anchors.shapes[-1].tolist() == [64, 64, 16]


def test_clusters_of_two_shapes():
    shapes = np.array([[10.0, 20]] * 5 + [[40, 8]] * 7)
    means = cluster(shapes, 2, np.random.default_rng(0))
    assert sorted(means.tolist()) == [[10.0, 20.0], [40.0, 8.0]]


def test_recall_rises_for_shapes_unlike_the_anchors():
    tall = boxes((10, 50), (20, 100))
    start = Anchors((8, 16), (4.0,), (0.5, 1.0, 2.0))
    fitted = fit_anchors(tall, start)
    assert measure(tall, start).recall[0.5] < 0.5 < fitted.recall[0.5]
    assert fitted.mean > measure(tall, start).mean
    assert (len(fitted.anchors.scales), len(fitted.anchors.ratios)) == (1, 3)
    assert fit_anchors(tall, start) == fitted  # the same seed


def test_anchors_that_fit_stay_as_good():
    start = Anchors((16,), (2.0,), (1.0,))
    assert fit_anchors(boxes((32, 32), spread=0), start).mean == pytest.approx(1.0)
