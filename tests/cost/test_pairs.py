"""Costs as pairs of the channels on both sides of layers."""

import numpy as np
import pytest

from razorlite.core.errors import ConfigError
from razorlite.cost import PairCost, Sides


def sides(**changes):
    """Two dimensions a, b; layers 3 -> 2a, 2a -> b + 4, grouped b + 4 -> b + 4, a norm over 2a."""
    columns = {
        "inputs": np.array([[0, 0, 3], [2, 0, 0], [0, 1, 4], [0, 0, 0]]),
        "outputs": np.array([[2, 0, 0], [0, 1, 4], [0, 1, 4], [2, 0, 0]]),
        "groups": np.array([1, 1, 2, 1]),
        "pair": {"macs": np.array([100, 10, 1, 0]), "params": np.array([9, 1, 1, 0])},
        "output": {"macs": np.array([0, 0, 0, 0]), "params": np.array([1, 0, 1, 2])},
    }
    return Sides(**{**columns, **changes})


def test_hand_made_costs():
    model = PairCost([[1, 3], [2, 4, 0]], sides(), fixed={"macs": 5, "params": 0})
    # a = 3, b = 4: layers 3 -> 6, 6 -> 8, 8 -> 8 in two groups
    costs = model.many(np.array([[1, 1], [0, 2]]))
    assert costs["macs"][0] == 5 + 18 * 100 + 48 * 10 + 64 // 2
    assert costs["params"][0] == (18 * 9 + 6) + 48 + (32 + 8) + 2 * 6
    # a = 1, b = 0: 3 -> 2, 2 -> 4, 4 -> 4
    assert costs["macs"][1] == 5 + 6 * 100 + 8 * 10 + 8
    assert costs["macs"].dtype == np.int64
    assert model.bounds()["macs"] == (costs["macs"][1], costs["macs"][0])


def slow(widths, layers, fixed, point):
    """One layer after another, one cost after another."""
    kept = [row[i] for row, i in zip(widths, point, strict=True)] + [1]
    total = dict(fixed)
    for layer in range(len(layers.groups)):
        ins = sum(int(n) * k for n, k in zip(layers.inputs[layer], kept, strict=True))
        outs = sum(int(n) * k for n, k in zip(layers.outputs[layer], kept, strict=True))
        for name in total:
            pairs = ins * outs // int(layers.groups[layer])
            total[name] += pairs * int(layers.pair[name][layer])
            total[name] += outs * int(layers.output[name][layer])
    return total


def random_model(rng, layers, dimensions):
    """Layers of which many have the same sides, so that they are counted as one."""
    rows = rng.integers(0, 4, (3, dimensions + 1))
    groups = rng.integers(1, 3, layers)
    several = {n: rng.integers(0, 1000, layers) for n in ("macs", "params")}
    further = {n: rng.integers(0, 10, layers) for n in ("macs", "params")}
    pick = rng.integers(0, 3, (2, layers))
    return Sides(2 * rows[pick[0]], rows[pick[1]], groups, several, further)


@pytest.mark.parametrize("seed", range(4))
def test_costs_equal_a_slow_sum_over_layers(seed):
    rng = np.random.default_rng(seed)
    widths = [list(rng.permutation(9)[: rng.integers(1, 5)]) for _ in range(4)]
    layers, fixed = random_model(rng, 12, 4), {"macs": 7, "params": 2}
    model = PairCost(widths, layers, fixed=fixed)
    points = np.stack([rng.integers(0, len(row), 1500) for row in widths], axis=1)
    costs = model.many(points)
    for i in (0, 3, 1023, 1024, 1499):  # on both sides of a chunk's end
        expected = slow(widths, layers, fixed, points[i])
        assert {name: value[i] for name, value in costs.items()} == expected
    low, high = model.bounds()["macs"]
    assert low <= costs["macs"].min()
    assert costs["macs"].max() <= high


def test_counts_beyond_32_bits_are_exact():
    layers = Sides(
        np.array([[0, 4096]]),
        np.array([[1, 0]]),
        np.array([1]),
        {"macs": np.array([10**9 + 7])},
        {"macs": np.array([0])},
    )
    model = PairCost([[1001]], layers, fixed={"macs": 1})
    assert model.many(np.zeros((1, 1), dtype=int))["macs"][0] == 1 + 1001 * 4096 * (10**9 + 7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": np.zeros((4, 2), dtype=int)}, "want 3 columns, .* got 2 and 3"),
        ({"pair": {"macs": np.zeros(4, dtype=int)}}, "want the same kinds, got"),
        ({"groups": np.array([1, 1, 0, 1])}, "groups of at least 1"),
        (
            {"outputs": np.array([[2, 0, 0], [0, -1, 4], [0, 1, 4], [2, 0, 0]])},
            "no negative number",
        ),
    ],
)
def test_wrong_sides_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        PairCost([[1], [2]], sides(**changes), fixed={"macs": 0, "params": 0})
