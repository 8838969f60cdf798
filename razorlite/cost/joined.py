"""Several cost models as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from razorlite.core.errors import ConfigError
from razorlite.cost.model import CostModel, Number

T = TypeVar("T")


class JoinedCost:
    """All kinds of cost that several models give: MACs and parameters, and a latency, say.

    Args:
        models: of the same points; each kind of cost comes from one of them.

    Attributes:
        names: kinds of cost, in the models' order.

    Raises:
        ConfigError: two models give one kind of cost.
    """

    def __init__(self, models: Sequence[CostModel]) -> None:
        self.models = tuple(models)
        self.names = tuple(name for model in self.models for name in model.names)
        for name in self.names:
            if self.names.count(name) > 1:
                raise ConfigError(f"two cost models give {name!r}; give each kind of cost once")

    def many(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Return the costs of (N, D) points: name to (N,) int64 or float64."""
        return _joined([model.many(points) for model in self.models])

    def bounds(self) -> dict[str, tuple[Number, Number]]:
        """Return the least and the greatest of each kind of cost, as the models give them."""
        return _joined([model.bounds() for model in self.models])


def _joined(parts: Sequence[Mapping[str, T]]) -> dict[str, T]:
    return {name: value for part in parts for name, value in part.items()}
