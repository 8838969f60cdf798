"""Points that are the same everywhere, and the costliest of them within budgets."""

import numpy as np
import pytest

from razorlite.recipes.by_hand import even_name, even_points, even_within, scored_points
from razorlite.search import Candidates, RandomSearcher, Study
from razorlite.space import ChoiceSpace, Dimension
from tests.search.contract import small_space, small_table


def values(space):
    return [tuple(space.decode(point).choices.values()) for point in even_points(space)]


def test_numbers_go_down_together_from_the_last_on():
    space = ChoiceSpace({"a": (8, 16, 32), "b": (32, 16, 8)})
    assert values(space) == [(32, 32), (32, 16), (16, 16), (16, 8), (8, 8)]


def test_equal_counts_equal_a_closed_form():
    space = ChoiceSpace({f"w{i}": (1, 2, 3, 4, 5) for i in range(7)})
    lowered = np.arange(7 * 4, -1, -1)[:, None]
    assert np.array_equal(even_points(space), (lowered + np.arange(7)[::-1]) // 7)


def test_operations_are_the_same_at_all_places_and_unused_choices_count_once():
    deep = Dimension("deep", (1, 2), when={"op": ("y",)})
    space = ChoiceSpace([Dimension("op", ("x", "y")), Dimension("other", ("y", "z")), deep])
    assert values(space) == [("x", "y", 1), ("y", "y", 2), ("y", "y", 1), ("x", "z", 1)]


@pytest.fixture
def study():
    space = small_space()
    return Study(
        searcher=RandomSearcher(candidates=Candidates(space=space, table=small_table(space))),
        score=lambda subnet: float(space.encode(subnet).sum()),
        max_trials=3,
    )


def test_the_costliest_even_point_of_each_operation_is_scored(study):
    study.run()
    points = even_within(study, "macs", [20.0, 60.0])  # all a: 31 macs, all b: 52, all c: 94
    assert points.tolist() == [[0] * 6, [1] * 6]
    trials = scored_points(study, lambda s: float(study.space.encode(s).sum()), None, points)
    assert [(t.cost["macs"], t.values) for t in trials] == [(31, (0.0,)), (52, (6.0,))]
    assert scored_points(study, lambda _: 0.0, None, points[:0]) == []
    names = [even_name(study, trial) for trial in trials]  # the largest: all c
    assert names == [
        "even, a: 33.0% of the largest's macs",
        "even, b: 55.3% of the largest's macs",
    ]
