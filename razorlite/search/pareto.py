"""The front of candidates that no other beats in both cost and score."""

from collections.abc import Sequence


def pareto_front(costs: Sequence[float], scores: Sequence[float]) -> list[int]:
    """Return the indices of all points with no other at most as costly and at least as good.

    Args:
        costs: less is better.
        scores: more is better; as many.

    Returns:
        Indices by rising cost (and so rising score); of equal points the first.
    """
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -scores[i], i))
    front: list[int] = []
    for i in order:
        if not front or scores[i] > scores[front[-1]]:
            front.append(i)
    return front
