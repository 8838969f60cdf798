"""What a search needs to know of costs."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

Number = int | float


class CostModel(Protocol):
    """Costs of the points of a space, whatever they are made of: a table, pairs, a predictor.

    Attributes:
        names: kinds of cost, such as macs, params or latency_ms.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    def many(self, points: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return the costs of (N, D) points, D indices of values each: name to (N,) numbers.

        Whole numbers as int64, others as float64; a search calls it with many points at a time.
        """

    def bounds(self) -> Mapping[str, tuple[Number, Number]]:
        """Return the least and the greatest of each kind of cost.

        No point lies outside; ends that no point reaches are said to be such where they are made.
        Percentages in limits are of the greatest.
        """


def shown(value: Number) -> str:
    """Return a cost as messages show it: 1,234 or 3.71."""
    whole = abs(value) >= 1000 or float(value).is_integer()
    return f"{value:,.0f}" if whole else f"{value:,.4g}"


def cost_text(name: str, value: Number) -> str:
    """Return a kind of cost as logs show it: 41.3 M MACs, 2.10 M parameters, latency_ms 3.7."""
    if name == "macs":
        return f"{value / 1e6:.1f} M MACs"
    return f"{value / 1e6:.2f} M parameters" if name == "params" else f"{name} {shown(value)}"
