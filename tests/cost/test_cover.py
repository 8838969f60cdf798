"""Points that show all combinations."""

import itertools

import numpy as np
import pytest

from razorlite.core.errors import ConfigError
from razorlite.cost.cover import combinations, covering
from razorlite.space import ChoiceSpace, Dimension


def test_every_combination_is_shown_by_few_points():
    counts = np.array([4, 3, 4, 3, 4])
    groups = [(0, 1, 2), (2, 3, 4), (1,), (0, 4)]
    points = covering(groups, counts, lambda p: p)
    for group in groups:
        shown = {tuple(point[list(group)]) for point in points}
        assert shown == set(itertools.product(*(range(counts[d]) for d in group)))
    assert 48 <= len(points) <= 70


def test_what_does_not_count_is_not_shown():
    outer = Dimension("outer", ("a", "b", "c"))
    inner = Dimension("inner", (1, 2, 3, 4), when={"outer": ("b",)})
    space = ChoiceSpace([outer, inner])
    points = covering([(0, 1)], space.counts, space.canonical)
    assert sorted(map(tuple, np.array(points).tolist())) == sorted(
        [(0, 0), (2, 0), *((1, i) for i in range(4))]
    )


def test_no_group_needs_no_point():
    assert covering([()], np.array([2, 3]), lambda p: p) == []


def test_too_many_combinations_are_refused():
    with pytest.raises(ConfigError, match=r"5 dimensions with 3,200,000 combinations"):
        combinations(range(5), np.array([20, 20, 20, 20, 20]), lambda p: p)
