"""The Pareto front: by hand, and against a pairwise search."""

import numpy as np

from razorlite.search import pareto_front
from razorlite.search.pareto import crowding, front_ranks


def test_front_by_hand():
    costs = [5, 1, 3, 3, 4, 2]
    scores = [9, 1, 6, 7, 7, 0]
    # (1, 1), (3, 7) and (5, 9); (3, 6) and (4, 7) are beaten by (3, 7), (2, 0) by (1, 1)
    assert pareto_front([(score, -cost) for score, cost in zip(scores, costs, strict=True)]) == [
        0,
        3,
        1,
    ]
    assert pareto_front([]) == []
    assert pareto_front([(2, -1), (2, -1)]) == [0]
    assert pareto_front([(1.0,), (3.0,), (3.0,), (2.0,)]) == [1]


def beats(a, b):
    return all(x >= y for x, y in zip(a, b, strict=True)) and a != b


def test_front_equals_a_pairwise_search():
    rng = np.random.default_rng(0)
    for objectives in (1, 2, 3, 4):
        values = [tuple(row) for row in rng.integers(0, 6, (60, objectives)).tolist()]
        expected = {v for v in values if not any(beats(other, v) for other in values)}
        front = [values[i] for i in pareto_front(values)]
        assert set(front) == expected
        assert len(front) == len(expected)  # each once
        assert front == sorted(front, reverse=True)


def test_ranks_by_hand():
    # (3, 1), (2, 2) and (1, 3) are beaten by none, (1, 2) and (2, 1) by (2, 2), (1, 1) by these
    values = np.array([(1, 1), (3, 1), (2, 2), (1, 2), (1, 3), (2, 1), (2, 2)])
    assert front_ranks(values).tolist() == [2, 0, 0, 1, 0, 1, 0]
    assert front_ranks(np.empty((0, 2))).tolist() == []


def test_the_first_front_is_the_one_that_no_other_beats():
    values = np.random.default_rng(0).integers(0, 6, (60, 3))
    front = {tuple(values[i]) for i in pareto_front(values.tolist())}
    assert {tuple(point) for point in values[front_ranks(values) == 0]} == front


def test_crowding_by_hand():
    # ranges 4 and 6; (1, 4) lies between (0, 6) and (2, 3): 2 / 4 + 3 / 6
    values = np.array([(2, 3), (0, 6), (4, 0), (1, 4)])
    assert crowding(values).tolist() == [3 / 4 + 4 / 6, np.inf, np.inf, 1.0]
    assert crowding(np.ones((3, 2)))[1] == 0
