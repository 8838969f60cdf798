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
