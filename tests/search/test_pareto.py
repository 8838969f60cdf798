"""The Pareto front: by hand, and against a pairwise search."""

import numpy as np

from razorlite.search import pareto_front


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
