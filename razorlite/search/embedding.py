"""Points of a space as vectors whose distances mean something."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from razorlite.search.feasible import Feasible
from razorlite.space import ChoiceSpace, Dimension

_SAMPLE = 1000  # points that tell how costs spread


@dataclass(frozen=True, eq=False)
class Embedding:
    """Points of a space as vectors of groups of columns, compared by squared distance.

    Each dimension has a group, one column a value, in which two points are 1 apart where they have
    different values. Each dimension of numbers has another, in which the smallest and the largest
    value are 1 apart and the others lie between them by rank. Each kind of cost has a column: its
    logarithm, standardised over the space.

    Attributes:
        space: of the points.
        feasible: their costs.
        tables: for each group of a dimension, the dimension's index and its (values, columns).
        centre: (C,) mean of each cost's logarithm.
        spread: (C,) its deviation; infinite where a cost does not vary.
    """

    space: ChoiceSpace
    feasible: Feasible
    tables: tuple[tuple[int, np.ndarray], ...]
    centre: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, space: ChoiceSpace, feasible: Feasible) -> Embedding:
        """Return the embedding of a space's points."""
        dimensions = enumerate(space.dimensions)
        kinds = [(i, _one_hot(len(d.values))) for i, d in dimensions]
        ordered = [(i, _ranked(d)) for i, d in enumerate(space.dimensions) if _is_ordered(d)]
        points = space.random_indices(np.random.default_rng(0), _SAMPLE)
        costs = _logarithms(feasible, points)
        spread = costs.std(axis=0)
        return cls(
            space=space,
            feasible=feasible,
            tables=(*kinds, *ordered),
            centre=costs.mean(axis=0),
            spread=np.where(spread > 1e-9, spread, np.inf),
        )

    @property
    def groups(self) -> np.ndarray:
        """Return the group of each column, (Q,) int64: dimensions', then costs'."""
        widths = [table.shape[1] for _, table in self.tables] + [1] * len(self.centre)
        groups: np.ndarray = np.repeat(np.arange(len(widths)), widths)
        return groups

    @property
    def kinds(self) -> np.ndarray:
        """Return which of (Q,) columns tell whether values are different, as bool."""
        kinds: np.ndarray = self.groups < len(self.space.dimensions)
        return kinds

    @property
    def costs(self) -> np.ndarray:
        """Return which of (Q,) columns are costs, as bool."""
        costs: np.ndarray = self.groups >= len(self.tables)
        return costs

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return the vectors of (N, D) points, (N, Q) float64."""
        columns = [table[points[:, i]] for i, table in self.tables]
        costs = (_logarithms(self.feasible, points) - self.centre) / self.spread
        return np.concatenate([*columns, costs], axis=1)


def _one_hot(count: int) -> np.ndarray:
    columns: np.ndarray = np.eye(count) * np.sqrt(0.5)
    return columns


def _ranked(dimension: Dimension) -> np.ndarray:
    """Return (V, V - 1): how many steps up a value is, so that distances add up along the way."""
    ranks = np.argsort(np.argsort(dimension.values))
    steps = np.arange(1, len(ranks)) <= ranks[:, None]
    columns: np.ndarray = steps / np.sqrt(len(ranks) - 1)
    return columns


def _is_ordered(dimension: Dimension) -> bool:
    return dimension.numeric and len(dimension.values) > 2


def _logarithms(feasible: Feasible, points: np.ndarray) -> np.ndarray:
    """Return (N, C), the logarithm of each kind of cost."""
    costs = feasible.costs(points)
    columns = [np.log(np.maximum(costs[name].astype(np.float64), 1e-12)) for name in costs]
    return np.stack(columns, axis=1) if columns else np.empty((len(points), 0))
