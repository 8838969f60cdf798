"""What a candidate may cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from razorlite.core.errors import BudgetError, ConfigError
from razorlite.core.registry import suggestion
from razorlite.cost.amounts import Amount, parse_amount
from razorlite.cost.model import CostModel, Number, shown

Written = Amount | Sequence[Amount | None] | None


@dataclass(frozen=True)
class Limit:
    """A range of one kind of cost, both ends allowed.

    Attributes:
        name: macs, params or another kind of cost.
        low: least allowed.
        high: most allowed.
    """

    name: str
    low: float = 0.0
    high: float = math.inf

    @classmethod
    def parse(cls, name: str, value: Written, *, whole: Number, where: str) -> Limit:
        """Read a limit as configurations write it.

        Args:
            name: kind of cost.
            value: the most allowed, or [least, most], of which null leaves an end open; amounts
                as `parse_amount` takes them.
            whole: what percentages and shares are of.
            where: the block that holds it, for messages.

        Raises:
            ConfigError: an amount cannot be read.
            BudgetError: the least allowed is above the most.
        """
        ends: list[Any] = list(value) if isinstance(value, list | tuple) else [None, value]
        if len(ends) != 2:
            raise ConfigError(
                f"{where}.{name} wants the most allowed or [least, most], got {value}"
            )
        low, high = (
            open_end if end is None else parse_amount(end, whole=whole, name=f"{where}.{name}")
            for end, open_end in zip(ends, (0.0, math.inf), strict=True)
        )
        if low > high:
            raise BudgetError(
                f"{where}.{name}: the least allowed, {shown(low)}, is more than the most, "
                f"{shown(high)}; swap them (the most there is: {shown(whole)})"
            )
        return cls(name, low, high)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{self.name} >= {shown(self.low)}"
        if not self.low:
            return f"{self.name} <= {shown(self.high)}"
        return f"{self.name} in {shown(self.low)} to {shown(self.high)}"


@dataclass(frozen=True)
class Constraint:
    """All limits on a candidate.

    Attributes:
        limits: all of them must hold; none allows everything.
    """

    limits: tuple[Limit, ...] = ()

    @classmethod
    def parse(
        cls,
        spec: Mapping[str, Written],
        costs: CostModel,
        *,
        where: str = "constraints",
        whole: str = "the largest subnet",
    ) -> Constraint:
        """Read limits as configurations write them and check that each can be met.

        Args:
            spec: kind of cost to the most allowed, or to [least, most]. An amount is a number, text
                such as "300M", "1.2G" or "20ms", a percentage such as "60%" of the greatest cost
                of that kind, or the same as a share (0.6) where costs are whole numbers; null in a
                range leaves that end open.
            costs: of the space's points.
            where: the block that holds the limits, for messages.
            whole: what percentages are of, for messages: the point with the greatest cost.

        Raises:
            ConfigError: a name or an amount cannot be read.
            BudgetError: a limit cannot be met; the message names the reachable range.
        """
        bounds = costs.bounds() if spec else {}
        limits = []
        for name, value in spec.items():
            if name not in bounds:
                known = ", ".join(bounds)
                raise ConfigError(
                    f"{where} know {known}, got {name!r}{suggestion(name, list(bounds))}"
                )
            limit = Limit.parse(name, value, whole=bounds[name][1], where=where)
            _check_reachable(limit, value, bounds[name], whole)
            limits.append(limit)
        return cls(tuple(limits))

    def allows(self, costs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return which of N points are allowed, (N,) bool, given name to (N,) costs.

        Raises:
            ConfigError: a limited kind of cost is not among the costs.
        """
        allowed = np.ones(_length(costs), dtype=bool)
        for limit in self.limits:
            value = _costs(costs, limit.name)
            allowed &= (value >= limit.low) & (value <= limit.high)
        return allowed

    def meets(self, cost: Mapping[str, float]) -> bool:
        """Return whether one candidate is allowed, given the costs that are limited by name."""
        return all(limit.low <= cost[limit.name] <= limit.high for limit in self.limits)

    def excess(self, costs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return how far points are from being allowed, as a share of the limits; 0 if allowed.

        Raises:
            ConfigError: a limited kind of cost is not among the costs.
        """
        total = np.zeros(_length(costs))
        for limit in self.limits:
            value = _costs(costs, limit.name)
            scale = limit.high if limit.high < math.inf else limit.low
            over = np.maximum(value - limit.high, 0) + np.maximum(limit.low - value, 0)
            total += over / (scale if scale > 0 else 1.0)
        return total

    def to_dict(self) -> dict[str, list[float | None]]:
        """Return plain values: name to [least, most]."""
        return {x.name: [x.low, x.high if x.high < math.inf else None] for x in self.limits}

    def __str__(self) -> str:
        return " and ".join(map(str, self.limits)) or "no limits"


def _length(costs: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(costs.values()), ()))


def _costs(costs: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in costs:
        known = ", ".join(costs) or "none"
        raise ConfigError(
            f"a constraint limits {name!r}, and the costs given are {known}; use a cost table that "
            f"has it, or drop the constraint"
        )
    return costs[name]


def _check_reachable(
    limit: Limit, written: Written, bounds: tuple[Number, Number], whole: str
) -> None:
    low, high = bounds
    if limit.high < low or limit.low > high:
        change = "raise" if limit.high < low else "lower"
        share = f" ({_shown(written)} of {whole}'s {shown(high)})" if _is_share(written) else ""
        raise BudgetError(
            f"constraint {limit}{share} cannot be met: reachable are {shown(low)} to "
            f"{shown(high)}; {change} it"
        )


def _is_share(written: Any) -> bool:
    """Return whether a limit was written as a percentage."""
    ends = written if isinstance(written, list | tuple) else [written]
    return any("%" in end for end in ends if isinstance(end, str))


def _shown(written: Any) -> str:
    ends = written if isinstance(written, list | tuple) else [written]
    return " to ".join(str(end) for end in ends if end is not None)
