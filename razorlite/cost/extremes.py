"""The least sum of tables that share dimensions, by eliminating one dimension after another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from razorlite.cost.model import Number

_LARGEST = 1 << 22  # entries of a table that joins all that depend on one dimension


@dataclass(frozen=True)
class Factor:
    """One term of a sum.

    Attributes:
        dimensions: K rising numbers of dimensions.
        table: (C_1, ..., C_K) values.
    """

    dimensions: tuple[int, ...]
    table: np.ndarray

    def at(self, dimensions: Sequence[int]) -> np.ndarray:
        """Return the table with an axis for each of more dimensions, of length 1 where unused."""
        missing = tuple(i for i, d in enumerate(dimensions) if d not in self.dimensions)
        return np.expand_dims(self.table, missing)

    def line(self, dimension: int, point: np.ndarray) -> np.ndarray:
        """Return the values along one dimension, all others as in a point."""
        return self.table[
            tuple(slice(None) if d == dimension else point[d] for d in self.dimensions)
        ]


def least(factors: Sequence[Factor], counts: np.ndarray) -> tuple[np.ndarray, Number, bool]:
    """Return the point with the least sum of its entries.

    Dimensions are eliminated one by one, those with the fewest neighbours first. Where joining the
    tables of one dimension would take too much memory, their least values are added up instead:
    then no point has less than the sum returned, and the point is a good one.

    Args:
        factors: terms of the sum.
        counts: (D,) how many values each dimension has.

    Returns:
        The (D,) point, the least sum, and whether both are exact.

    R. Dechter, Bucket elimination: a unifying framework for reasoning, 1999; mini-buckets in part.
    """
    left, exact = list(factors), True
    eliminated: list[tuple[int, list[Factor]]] = []
    todo = {d for factor in factors for d in factor.dimensions}
    while todo:
        dimension = min(todo, key=lambda d: (_size(_touching(left, d), counts), d))
        todo.remove(dimension)
        touching = _touching(left, dimension)
        eliminated.append((dimension, touching))
        groups = _groups(touching, counts)
        exact = exact and len(groups) == 1
        left = [f for f in left if dimension not in f.dimensions]
        left += [_without(group, dimension) for group in groups]
    point = np.zeros(len(counts), dtype=np.int64)
    for dimension, touching in reversed(eliminated):
        lines = np.stack([factor.line(dimension, point) for factor in touching])
        point[dimension] = lines.sum(axis=0).argmin()
    return point, sum(factor.table.item() for factor in left), exact


def _touching(factors: Sequence[Factor], dimension: int) -> list[Factor]:
    return [factor for factor in factors if dimension in factor.dimensions]


def _joint(factors: Sequence[Factor]) -> tuple[int, ...]:
    return tuple(sorted({d for factor in factors for d in factor.dimensions}))


def _size(factors: Sequence[Factor], counts: np.ndarray) -> int:
    return math.prod(int(counts[d]) for d in _joint(factors))


def _groups(factors: Sequence[Factor], counts: np.ndarray) -> list[list[Factor]]:
    """Return factors in as few groups as keep each joint table small; most often in one."""
    groups: list[list[Factor]] = []
    for factor in factors:
        home = (g for g in groups if _size([*g, factor], counts) <= _LARGEST)
        found = next(home, None)
        if found is None:
            groups.append([factor])
        else:
            found.append(factor)
    return groups


def _without(factors: Sequence[Factor], dimension: int) -> Factor:
    """Return the least of the factors' sum over all values of one dimension."""
    dimensions = _joint(factors)
    total = np.asarray(sum(factor.at(dimensions) for factor in factors))
    rest = tuple(d for d in dimensions if d != dimension)
    return Factor(rest, total.min(axis=dimensions.index(dimension)))
