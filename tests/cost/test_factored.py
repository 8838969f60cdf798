"""Costs as tables over the few dimensions that each part depends on."""

import numpy as np
import pytest

from razorlite.core.errors import ConfigError
from razorlite.cost import FactoredCost, Part, extremes
from razorlite.space import ChoiceSpace


def space_of(*counts):
    return ChoiceSpace({f"d{i}": tuple(range(n)) for i, n in enumerate(counts)})


def test_hand_made_tables():
    # widths of 2, 3 and 4; a layer between the first two, one between the last two
    space = space_of(2, 3, 4)
    first = Part((0, 1), {"macs": np.array([[1, 2, 3], [10, 20, 30]])})
    second = Part((2, 1), {"macs": np.arange(12).reshape(4, 3), "ms": np.full((4, 3), 0.5)})
    choice = Part((0,), {"params": np.array([5, 7])})
    fixed = {"macs": 100, "params": 1000, "ms": 1}
    costs = FactoredCost(space, fixed=fixed, parts=[first, second, choice])
    points = np.array([[0, 0, 0], [1, 2, 3], [1, 0, 2]])
    found = costs.many(points)
    assert found["macs"].tolist() == [100 + 1 + 0, 100 + 30 + 11, 100 + 10 + 6]
    assert found["params"].tolist() == [1005, 1007, 1007]
    assert found["ms"].tolist() == [1.5, 1.5, 1.5]
    assert found["macs"].dtype == np.int64
    assert found["ms"].dtype == np.float64
    assert costs.bounds()["macs"] == (101, 141)
    assert dict(costs.largest().choices) == {"d0": 1, "d1": 2, "d2": 3}


def random_parts(rng, counts, number):
    """Parts over one to three dimensions, some of the same ones in another order."""
    parts = []
    for _ in range(number):
        dimensions = tuple(rng.permutation(len(counts))[: rng.integers(1, 4)].tolist())
        shape = [counts[d] for d in dimensions]
        tables = {"macs": rng.integers(-50, 50, shape), "ms": rng.normal(size=shape)}
        kept = [name for name in tables if rng.random() < 0.8]
        parts.append(Part(dimensions, {name: tables[name] for name in kept}))
    return parts


def slow(parts, name, fixed, points):
    """One point after another, one part after another."""
    return [
        fixed
        + sum(
            p.costs[name][tuple(point[d] for d in p.dimensions)] for p in parts if name in p.costs
        )
        for point in points
    ]


@pytest.mark.parametrize("seed", range(6))
def test_costs_and_bounds_equal_a_slow_sum_over_parts(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 5, 6).tolist()
    space, parts = space_of(*counts), random_parts(rng, counts, 9)
    costs = FactoredCost(space, fixed={"macs": 3, "ms": 0.25}, parts=parts)
    points = space.all_indices()
    found = costs.many(points)
    assert found["macs"].tolist() == slow(parts, "macs", 3, points)
    assert found["ms"] == pytest.approx(slow(parts, "ms", 0.25, points))
    for name, values in found.items():
        assert costs.bounds()[name] == (values.min(), values.max())
        assert costs(costs.smallest(name))[name] == values.min()
        assert costs(costs.largest(name))[name] == values.max()


def test_bounds_of_entangled_parts_hold_although_they_are_not_reached(monkeypatch):
    monkeypatch.setattr(extremes, "_LARGEST", 30)
    rng = np.random.default_rng(3)
    space = space_of(*[3] * 6)
    pairs = [(a, b) for a in range(6) for b in range(a)]
    parts = [Part(pair, {"macs": rng.integers(0, 99, (3, 3))}) for pair in pairs]
    costs = FactoredCost(space, fixed={"macs": 0}, parts=parts)
    every = costs.many(space.all_indices())["macs"]
    low, high = costs.bounds()["macs"]
    assert low <= every.min()
    assert every.max() <= high
    assert (low, high) != (every.min(), every.max())
    assert costs(costs.smallest()).macs <= np.median(every)


def test_bounds_of_a_long_chain_take_no_time():
    # widths of 8 in 60 layers: 8 ** 60 points
    rng = np.random.default_rng(0)
    space = space_of(*[8] * 60)
    tables = rng.integers(0, 1000, (59, 8, 8))
    parts = [Part((i, i + 1), {"macs": table}) for i, table in enumerate(tables)]
    costs = FactoredCost(space, fixed={"macs": 0}, parts=parts)
    best = np.zeros(8, dtype=np.int64)  # the least cost of all layers so far, by their last width
    for table in tables:
        best = (best[:, None] + table).min(axis=0)
    assert costs.bounds()["macs"][0] == best.min()


def test_no_dimension_and_no_point():
    assert FactoredCost(space_of(), fixed={"macs": 3}).bounds() == {"macs": (3, 3)}
    costs = FactoredCost(space_of(2), fixed={"macs": 3})
    assert costs.many(np.zeros((0, 1), dtype=int))["macs"].tolist() == []
    assert costs.many(np.array([[1]]))["macs"].tolist() == [3]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part((0, 0), {"macs": np.zeros((2, 2))}), "wants different dimensions from 0 to 1"),
        (Part((2,), {"macs": np.zeros(2)}), r"from 0 to 1, got \[2\]"),
        (Part((0, 1), {"macs": np.zeros((3, 2))}), r"of shape \(2, 3\) over .* got \(3, 2\)"),
        (Part((0,), {"flops": np.zeros(2)}), "'flops' wants both a fixed part and shares"),
        (Part((0,), {"macs": np.array([1, np.inf])}), "not finite"),
    ],
)
def test_wrong_parts_are_refused(part, message):
    with pytest.raises(ConfigError, match=message):
        FactoredCost(space_of(2, 3), fixed={"macs": 0}, parts=[part])
