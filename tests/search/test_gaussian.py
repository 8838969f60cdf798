"""The Gaussian process: against the formulas written out, and its gradient by differences."""

import numpy as np
import pytest

from razorlite.cost import CostTable
from razorlite.search.embedding import Embedding
from razorlite.search.feasible import Feasible
from razorlite.search.gaussian import GaussianProcess
from razorlite.search.predictor import compressed, expected_improvement
from razorlite.space import ChoiceSpace, Dimension


def mixed_space():
    """Two dimensions of texts, one of numbers that are not in order."""
    return ChoiceSpace(
        [Dimension("a", ("x", "y")), Dimension("b", ("p", "q", "r")), Dimension("c", (8, 2, 4))]
    )


def embedding(priced=True):
    space = mixed_space()
    shares = {"macs": [[1, 2], [3, 4, 9], [8, 2, 4]]}
    table = CostTable(space, fixed={"macs": 10}, shares=shares) if priced else None
    return Embedding.of(space, Feasible(table))


def test_distances_by_hand():
    found = embedding(priced=False)
    first, second = found(np.array([[0, 1, 0], [1, 1, 1]]))
    apart = {g: np.square(first - second)[found.groups == g].sum() for g in range(4)}
    # other texts, the same text, other numbers, and 8 and 2 are the ends of 2 < 4 < 8
    assert apart == pytest.approx({0: 1.0, 1: 0.0, 2: 1.0, 3: 1.0})
    third = found(np.array([[0, 1, 2]]))[0]
    assert np.square(first - third)[found.groups == 3].sum() == pytest.approx(0.5)


def test_costs_are_standardised_logarithms():
    found = embedding()
    points = mixed_space().random_indices(np.random.default_rng(0), 1000)
    column = found(points)[:, found.costs]
    assert column.shape == (1000, 1)
    assert (column.mean(), column.std()) == pytest.approx((0, 1), abs=1e-9)


def by_hand(process, first, second):
    """Return the covariance of two points, all sums written out."""
    found, parameters = process.embedding, np.exp(process.parameters)
    additive, product, linear, _ = parameters[:4]
    one, other = found(first[None])[0], found(second[None])[0]
    apart = [np.square(one - other)[found.groups == g].sum() for g in range(5)]
    near = np.exp(-sum(w * d for w, d in zip(parameters[4:], apart, strict=True)))
    alike = (first == second).mean()
    return 1 + additive * alike + product * near + linear * one[-1] * other[-1]


def test_predictions_equal_the_formulas():
    rng = np.random.default_rng(1)
    process = GaussianProcess(embedding())
    process.parameters = process.parameters + rng.normal(0, 0.3, len(process.parameters))
    points, values = mixed_space().random_indices(rng, 7), rng.normal(size=7)
    process.condition(points, values)
    new = mixed_space().random_indices(rng, 3)
    mean, deviation = process.predict(new)
    noise = np.exp(process.parameters[3]) + 1e-6
    known = np.array([[by_hand(process, a, b) for b in points] for a in points])
    inverse = np.linalg.inv(known + noise * np.eye(7))
    for i, point in enumerate(new):
        shared = np.array([by_hand(process, point, other) for other in points])
        assert mean[i] == pytest.approx(shared @ inverse @ values)
        variance = by_hand(process, point, point) - shared @ inverse @ shared
        assert deviation[i] == pytest.approx(np.sqrt(variance), rel=1e-4)


def test_the_gradient_equals_differences():
    rng = np.random.default_rng(2)
    process = GaussianProcess(embedding())
    points, values = mixed_space().random_indices(rng, 12), rng.normal(size=12)
    vectors = process.embedding(points)
    apart = process._distances(vectors)
    start = process.parameters + rng.normal(0, 0.3, len(process.parameters))
    _, gradient = process._objective(start, values, vectors, apart)
    for i, step in enumerate(1e-4 * np.eye(len(start))):
        high, low = (
            process._objective(start + s, values, vectors, apart)[0] for s in (step, -step)
        )
        assert gradient[i] == pytest.approx((high - low) / 2e-4, rel=1e-3, abs=1e-4)


def test_a_fit_tells_which_dimension_matters():
    rng = np.random.default_rng(3)
    process = GaussianProcess(embedding(priced=False))
    points = mixed_space().random_indices(rng, 40)
    process.fit(points, np.where(points[:, 1] == 2, 1.5, -0.7) * np.where(points[:, 0], 1, -1.0))
    weights = process.parameters[4:]
    assert min(weights[0], weights[1]) > max(weights[2], weights[3]) + 1


def test_expected_improvement_equals_sampling():
    samples = np.random.default_rng(0).normal(0.2, 0.5, 200_000)
    gain = expected_improvement(np.array([0.2]), np.array([0.5]), 0.4)[0]
    assert gain == pytest.approx(np.maximum(samples - 0.4, 0).mean(), rel=0.02)


def test_bad_scores_are_drawn_nearer_and_stay_in_order():
    values = [*np.linspace(93.0, 90.0, 20).tolist(), 30.0]
    found = compressed(values)
    assert (np.diff(found) < 0).all()
    assert found[0] - found[19] > 1.5 * (values[0] - values[19]) / np.std(values)
    assert compressed([1.0, 1.0]).tolist() == [0.0, 0.0]
