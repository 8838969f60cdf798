"""What candidates cost, and which of them may be tried: pure functions of points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from razorlite.core.errors import ConfigError
from razorlite.cost import Constraint, CostModel


@dataclass(frozen=True)
class Feasible:
    """Costs of points, and whether they meet a constraint.

    Attributes:
        table: costs of a space's points, such as a `CostTable`; needed where there is a limit.
        constraint: what a point may cost.

    Raises:
        ConfigError: nothing gives the costs that are limited.
    """

    table: CostModel | None = None
    constraint: Constraint = field(default_factory=Constraint)

    def __post_init__(self) -> None:
        for limit in self.constraint.limits:
            if limit.name not in self.names:
                known = ", ".join(self.names) or "none: there is no cost table"
                raise ConfigError(
                    f"the constraint {limit} needs the cost {limit.name!r}, and the costs known "
                    f"are {known}; give a table that has it, or drop the constraint"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Return the kinds of cost that are known."""
        return () if self.table is None else tuple(self.table.names)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return which of (N, D) points may be tried, (N,) bool."""
        if not self.constraint.limits:
            return np.ones(len(points), dtype=bool)
        return self.constraint.allows(self.costs(points))

    def excess(self, points: np.ndarray) -> np.ndarray:
        """Return how far (N, D) points are from being allowed, (N,), as a share of the limits."""
        if not self.constraint.limits:
            return np.zeros(len(points))
        return self.constraint.excess(self.costs(points))

    def costs(self, points: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return the costs of (N, D) points: name to (N,) int64 or float64.

        Raises:
            ConfigError: the cost model does not give that.
        """
        if self.table is None:
            return {}
        found = self.table.many(points)
        costs = {name: np.asarray(found[name]) for name in self.names if name in found}
        for name in self.names:
            _check(name, costs.get(name), len(points), self.table)
        return costs

    def cost(self, point: np.ndarray) -> dict[str, int | float]:
        """Return the costs of one (D,) point by name."""
        return {name: value[0].item() for name, value in self.costs(point[None]).items()}


def _check(name: str, values: np.ndarray | None, count: int, table: CostModel) -> None:
    if values is None or values.shape != (count,) or values.dtype.kind not in "iuf":
        came = "none" if values is None else f"{values.dtype} of shape {values.shape}"
        raise ConfigError(
            f"{type(table).__name__}.many wants to give ({count},) numbers for {name!r} at "
            f"{count} points, got {came}"
        )
