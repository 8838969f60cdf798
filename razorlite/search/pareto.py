"""The front of candidates that no other beats in all objectives."""

from collections.abc import Sequence

import numpy as np


def pareto_front(values: Sequence[Sequence[float]]) -> list[int]:
    """Return which of some points no other beats: one at least as good in all, better in one.

    Args:
        values: (N, K) value of each objective, more is better.

    Returns:
        Indices of points, the best in the first objective first; of equal points the first.
    """
    order = sorted(range(len(values)), key=lambda i: tuple(-v for v in values[i]))  # stable
    front: list[int] = []
    best = np.empty((0, len(values[0]) if values else 0))
    for i in order:
        point = np.asarray(values[i], dtype=np.float64)
        if not (best >= point).all(axis=1).any():
            front.append(i)
            best = np.vstack([best, point])
    return front


def front_ranks(values: np.ndarray) -> np.ndarray:
    """Return the front of each of (N, K) points, (N,) int64: 0 if no other beats it, and so on.

    Points of front n are beaten by none but those of the fronts before it; more is better.
    """
    no_worse = np.all(values[:, None] >= values[None], axis=2)
    beats: np.ndarray = no_worse & ~no_worse.T
    ranks = np.full(len(values), -1, dtype=np.int64)
    rank = 0
    while (left := ranks < 0).any():
        ranks[left & ~beats[left].any(axis=0)] = rank
        rank += 1
    return ranks


def crowding(values: np.ndarray) -> np.ndarray:
    """Return the room around each of the (N, K) points of a front, (N,): more is less crowded.

    It is the sum over objectives of the distance between a point's neighbours, as a share of the
    objective's range; the points at the ends have infinite room.

    NSGA-II, https://doi.org/10.1109/4235.996017, section III B.
    """
    room = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        room[order[[0, -1]]] = np.inf
        if span > 0:
            room[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return room
