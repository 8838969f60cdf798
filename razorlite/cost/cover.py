"""Few points of a space that show every combination of values that a cost depends on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from razorlite.core.errors import ConfigError

Canonical = Callable[[np.ndarray], np.ndarray]

_MOST = 100_000  # combinations of the dimensions that one part depends on


def combinations(dimensions: Sequence[int], counts: np.ndarray, canonical: Canonical) -> np.ndarray:
    """Return all combinations of the values of a few dimensions, as they count.

    Args:
        dimensions: K numbers of dimensions; with each one all that its condition names.
        counts: (D,) how many values each dimension of the space has.
        canonical: sets (N, D) points' dimensions that a condition switches off to one value.

    Returns:
        (M, K) indices, the last dimension varying fastest; combinations that differ only in what
        conditions switch off are equal.

    Raises:
        ConfigError: there are too many.
    """
    sizes = [int(counts[d]) for d in dimensions]
    if math.prod(sizes) > _MOST:
        raise ConfigError(
            f"a cost depends on {len(sizes)} dimensions with {math.prod(sizes):,} combinations of "
            f"values, more than the {_MOST:,} that are tabulated; give fewer values, or a cost "
            f"model of your own"
        )
    rows = np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes or [1]), axis=1)
    rows = rows[:, : len(sizes)]
    points = np.zeros((len(rows), len(counts)), dtype=np.int64)
    points[:, list(dimensions)] = rows
    return canonical(points)[:, list(dimensions)]


def covering(
    groups: Iterable[Sequence[int]], counts: np.ndarray, canonical: Canonical, *, seed: int = 0
) -> list[np.ndarray]:
    """Return points that together show all combinations of each group of dimensions.

    What no group asks for is drawn at random. As many points as the largest group has combinations
    are needed; there are not many more, as one point serves all groups.

    Args:
        groups: dimensions by their numbers; with each one all that its condition names.
        counts: (D,) how many values each dimension has.
        canonical: as for `combinations`.
        seed: of what is drawn.

    Returns:
        (D,) int64 points, in canonical form.
    """
    rng = np.random.default_rng(seed)
    missing = _Missing(groups, counts, canonical)
    points = []
    while missing:
        drawn = rng.integers(0, counts)
        expected = missing.next_point(len(counts))
        point = canonical(np.where(expected < 0, drawn, expected)[None])[0]
        missing.shown_by(point)
        points.append(point)
    return points


class _Missing:
    """The combinations that no point has shown yet, by group."""

    def __init__(
        self, groups: Iterable[Sequence[int]], counts: np.ndarray, canonical: Canonical
    ) -> None:
        distinct = dict.fromkeys(tuple(sorted(group)) for group in groups)
        self.rows = {
            group: np.unique(combinations(group, counts, canonical), axis=0)
            for group in distinct
            if group
        }

    def __bool__(self) -> bool:
        return any(map(len, self.rows.values()))

    def next_point(self, size: int) -> np.ndarray:
        """Return a (size,) point that shows as much as fits together, -1 where all is shown."""
        point = np.full(size, -1, dtype=np.int64)
        for group in sorted(self.rows, key=lambda g: -len(self.rows[g])):
            rows, expected = self.rows[group], point[list(group)]
            fitting = np.flatnonzero(((rows == expected) | (expected < 0)).all(axis=1))
            if len(fitting):
                point[list(group)] = rows[fitting[0]]
        return point

    def shown_by(self, point: np.ndarray) -> None:
        """Cross off what a point shows."""
        for group, rows in self.rows.items():
            self.rows[group] = rows[(rows != point[list(group)]).any(axis=1)]
