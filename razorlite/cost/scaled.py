"""Costs of another model times a factor that measuring has given."""

from __future__ import annotations

import numpy as np

from razorlite.cost.model import CostModel, Number


class ScaledCost:
    """All kinds of cost of a model, multiplied.

    Args:
        costs: of a space's points.
        factor: positive.

    Attributes:
        names: kinds of cost, the model's.
    """

    def __init__(self, costs: CostModel, factor: float) -> None:
        self.costs, self.factor = costs, factor
        self.names = tuple(costs.names)

    def many(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Return the costs of (N, D) points: name to (N,) float64."""
        return {name: self.factor * values for name, values in self.costs.many(points).items()}

    def bounds(self) -> dict[str, tuple[Number, Number]]:
        """Return the least and the greatest of each kind of cost."""
        factor = self.factor
        return {name: (factor * a, factor * b) for name, (a, b) in self.costs.bounds().items()}
