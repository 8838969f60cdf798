"""Costs of another model, corrected by what measuring some points has given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from razorlite.cost.model import CostModel, Number


class CorrectedCost:
    """Costs of a model, those of each point multiplied by a factor of its own.

    Args:
        costs: of a space's points.
        factors: (N, D) points to (N,) positive factors.

    Attributes:
        names: kinds of cost, the model's.
    """

    def __init__(self, costs: CostModel, factors: Callable[[np.ndarray], np.ndarray]) -> None:
        self.costs, self.factors = costs, factors
        self.names = tuple(costs.names)

    def many(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Return the costs of (N, D) points: name to (N,) float64."""
        factors = self.factors(points)
        return {name: factors * values for name, values in self.costs.many(points).items()}

    def bounds(self) -> dict[str, tuple[Number, Number]]:
        """Return the ends of each kind of cost as they are without factors."""
        return dict(self.costs.bounds())
