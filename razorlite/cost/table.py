"""Costs that are a sum of shares, one for each dimension of a space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from razorlite.core.errors import ConfigError
from razorlite.cost.factored import FactoredCost, Part, Points, plain_numbers
from razorlite.cost.model import Number
from razorlite.cost.observing import Supernet
from razorlite.cost.tabulate import tabulate


class CostTable(FactoredCost):
    """Adds up what a point of a space costs: each dimension has its own share.

    Args:
        space: the dimensions and their values.
        fixed: name of each kind of cost (macs, params, latency_ms, ...) to the part that every
            point has. A kind of which all parts are whole numbers is counted in int64, any other
            in float64.
        shares: name of each kind to what each value of each dimension adds, in the space's order.

    Attributes:
        space: as given.
        names: kinds of cost.

    Raises:
        ConfigError: the shares are not those of the space, or not finite.
    """

    def __init__(
        self,
        space: Points,
        *,
        fixed: Mapping[str, Number],
        shares: Mapping[str, Sequence[Sequence[Number]]],
    ) -> None:
        for name in {*fixed, *shares}:
            _check_shares(name, fixed.get(name), shares.get(name), space)
        parts = [
            Part((d,), {name: plain_numbers(rows[d]) for name, rows in shares.items()})
            for d in range(len(space.counts))
        ]
        super().__init__(space, fixed=fixed, parts=parts)

    @classmethod
    def build(cls, space: Supernet, shape: tuple[int, int] = (224, 224)) -> FactoredCost:
        """Count MACs and parameters of all points of a supernet's space: see `tabulate`."""
        return tabulate(space, shape)


def _check_shares(name: str, fixed: Any, shares: Any, space: Points) -> None:
    if fixed is None or shares is None:
        raise ConfigError(f"cost {name!r} wants both a fixed part and shares, got one of them")
    sizes = [len(row) for row in shares]
    if sizes != space.counts.tolist():
        raise ConfigError(
            f"cost {name!r} wants a share for each value of each dimension, "
            f"{space.counts.tolist()} of them, got {sizes}"
        )
    if not np.isfinite([fixed, *(value for row in shares for value in row)]).all():
        raise ConfigError(f"cost {name!r} has a part that is not finite")
