"""What a candidate may cost."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from razorlite.core.errors import BudgetError, ConfigError
from razorlite.core.registry import suggestion
from razorlite.cost.model import CostModel, shown

Amount = float | int | str | None
_FACTORS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_AMOUNT = re.compile(r"\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([KMGTkmgt]?|%)\s*")


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
    def parse(cls, spec: Mapping[str, Amount | Sequence[Amount]], table: CostModel) -> Constraint:
        """Read limits as configurations write them and check that each can be met.

        Args:
            spec: kind of cost to the most allowed, or to [least, most]. An amount is a number, text
                such as "300M" or "1.2G", or a percentage such as "60%" of the greatest cost of
                that kind; null in a range leaves that end open.
            table: costs of the space's points.

        Raises:
            ConfigError: a name or an amount cannot be read.
            BudgetError: a limit cannot be met; the message names the reachable range.
        """
        limits = tuple(_limit(name, value, table) for name, value in spec.items())
        for limit in limits:
            _check_reachable(limit, table)
        return cls(limits)

    def allows(self, figures: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return which of N points are allowed, (N,) bool, given name to (N,) costs.

        Raises:
            ConfigError: a limited kind of cost is not among the figures.
        """
        allowed = np.ones(_length(figures), dtype=bool)
        for limit in self.limits:
            value = _costs(figures, limit.name)
            allowed &= (value >= limit.low) & (value <= limit.high)
        return allowed

    def excess(self, figures: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return how far points are from being allowed, as a share of the limits; 0 if allowed.

        Raises:
            ConfigError: a limited kind of cost is not among the figures.
        """
        total = np.zeros(_length(figures))
        for limit in self.limits:
            value = _costs(figures, limit.name)
            scale = limit.high if limit.high < math.inf else limit.low
            over = np.maximum(value - limit.high, 0) + np.maximum(limit.low - value, 0)
            total += over / (scale if scale > 0 else 1.0)
        return total

    def to_dict(self) -> dict[str, list[float | None]]:
        """Return plain values: name to [least, most]."""
        return {x.name: [x.low, x.high if x.high < math.inf else None] for x in self.limits}

    def __str__(self) -> str:
        return " and ".join(map(str, self.limits)) or "no limits"


def _length(figures: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(figures.values()), ()))


def _costs(figures: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in figures:
        known = ", ".join(figures) or "none"
        raise ConfigError(
            f"a constraint limits {name!r}, and the costs given are {known}; use a cost table that "
            f"has it, or drop the constraint"
        )
    return figures[name]


def parse_amount(value: Amount, *, whole: float, name: str = "amount") -> float:
    """Return a number for 300e6, "300M" or "60%" (of `whole`).

    Raises:
        ConfigError: the text is none of these, or the number is negative or beyond all costs.
    """
    number, unit = value, ""
    if isinstance(value, str):
        match = _AMOUNT.fullmatch(value)
        parts = match.groups() if match else ("", "")
        number, unit = _number(parts[0]), parts[1].upper()
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 1e300:
        raise ConfigError(
            f"{name} wants a number, text such as 300M, or a percentage such as 60%, got "
            f"{value!r:.60}"
        )
    return number * whole / 100 if unit == "%" else number * _FACTORS[unit]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _limit(name: str, value: Amount | Sequence[Amount], table: CostModel) -> Limit:
    bounds = table.bounds()
    if name not in bounds:
        known = ", ".join(bounds)
        raise ConfigError(f"constraints know {known}, got {name!r}{suggestion(name, list(bounds))}")
    ends: list[Any] = list(value) if isinstance(value, list | tuple) else [None, value]
    if len(ends) != 2:
        raise ConfigError(
            f"constraints.{name} wants the most allowed or [least, most], got {value}"
        )
    low, high = (
        None
        if end is None
        else parse_amount(end, whole=bounds[name][1], name=f"constraints.{name}")
        for end in ends
    )
    return Limit(name, low or 0.0, math.inf if high is None else high)


def _check_reachable(limit: Limit, table: CostModel) -> None:
    low, high = table.bounds()[limit.name]
    if limit.low > limit.high:
        raise BudgetError(
            f"constraint {limit.name}: the least allowed, {shown(limit.low)}, is more than the "
            f"most, {shown(limit.high)}; swap them (reachable: {shown(low)} to {shown(high)})"
        )
    if limit.high < low or limit.low > high:
        change = "raise" if limit.high < low else "lower"
        raise BudgetError(
            f"constraint {limit} cannot be met: reachable are {shown(low)} to {shown(high)}; "
            f"{change} it"
        )
