"""Points that are the same wherever the kind is the same, and a search that begins with them."""

import numpy as np
import pytest

from razorlite.core.errors import ConfigError
from razorlite.cost import CostTable
from razorlite.search import SearchConfig, build_study
from razorlite.search.even import even_grid
from razorlite.space import ChoiceSpace

VALUES = {
    "stem.width": (8, 16, 32),
    "layer1.0.width": (64, 32, 16),  # from the largest on
    "layer1.depth": (1, 2),
    "layer2.depth": (1, 2),
}


def space():
    return ChoiceSpace(VALUES)


def numbers(points):
    return {tuple(space().decode(point).choices.values()) for point in points}


def test_kinds_go_down_each_by_itself():
    widths, depths = [(8, 16), (16, 32), (32, 64)], [(1, 1), (2, 2)]
    assert numbers(even_grid(space())) == {(*w, *d) for w in widths for d in depths}


def test_shorter_ladders_take_the_nearest():
    ladders = ChoiceSpace({"a.width": (1, 2, 3, 4, 5), "b.width": (10, 20)})
    found = [tuple(ladders.decode(point).choices.values()) for point in even_grid(ladders)]
    assert found == [(1, 10), (2, 10), (3, 10), (4, 20), (5, 20)]


def test_spaces_of_many_kinds_are_refused():
    with pytest.raises(ConfigError, match=r"4096 subnets .* even, as .* of 12 kinds \(p0, p1, p2"):
        even_grid(ChoiceSpace({f"p{i}": (1, 2) for i in range(12)}))


def study(constraints, trials, **more):
    shares = [[1, 2, 4], [4, 2, 1], [1, 5], [1, 5]]  # macs add up
    table = CostTable(space(), fixed={"macs": 0}, shares={"macs": shares})
    config = SearchConfig(constraints=constraints, even_first=True, max_trials=trials)
    return build_study(config, space=space(), table=table, score=lambda _: 0.0, **more)


def test_a_search_begins_with_the_largest_even_ones_within_the_budget():
    searched = study({"macs": 12}, 5)
    searched.run()
    first = [space().encode(trial.subnet) for trial in searched.trials[:2]]
    assert numbers(first) == {(32, 64, 1, 1), (8, 16, 2, 2)}  # 10 and 12 macs; the next has 14
    drawn = np.array([space().encode(trial.subnet) for trial in searched.trials])
    assert len(np.unique(drawn, axis=0)) == 5
