"""Amounts of a cost as people write them."""

from __future__ import annotations

import re
from typing import Any

from razorlite.core.errors import ConfigError
from razorlite.cost.model import Number

Amount = float | int | str

_FACTORS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_TIMES = {"s": 1e6, "ms": 1e3, "us": 1.0}  # in microseconds
_AMOUNT = re.compile(r"\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(us|ms|s|[KMGTkmgt]?|%)\s*")


def parse_amount(value: Amount, *, whole: Number, name: str = "amount") -> float:
    """Return a number for 300e6, "300M", "60%" (of `whole`), 0.6 (of a `whole` number), "20ms".

    Args:
        value: as written. A fraction between 0 and 1 is a share where costs are whole numbers, as
            nothing costs less than 1 there. A time is for kinds of cost whose name ends in `_ms`,
            `_us` or `_s`, and is turned into that unit.
        whole: what percentages and shares are of.
        name: what messages call it; the kind of cost is its last part.

    Raises:
        ConfigError: the text is none of these, or the number is negative or beyond all costs.
    """
    number, unit = _read(value)
    if isinstance(whole, int) and isinstance(value, float) and 0 < value < 1:
        number, unit = 100 * value, "%"
    own = time_unit(name)
    if not _is_amount(number) or (unit in _TIMES and own is None):
        example = "300M" if own is None else f"20{own}"
        raise ConfigError(
            f"{name} wants a number, text such as {example}, or a percentage such as 60%, got "
            f"{value!r:.60}"
        )
    if unit == "%":
        part: float = number * whole / 100
        return part
    factor = _TIMES[unit] / _TIMES[own or ""] if unit in _TIMES else _FACTORS[unit]
    amount: float = number * factor
    return amount


def time_unit(name: str) -> str | None:
    """Return the unit that a kind of cost has by its name: `latency_ms` is in ms."""
    ending = name.rpartition("_")[2]
    return ending if "_" in name and ending in _TIMES else None


def _read(value: Any) -> tuple[Any, str]:
    """Return the number, or what came instead, and the unit."""
    if not isinstance(value, str):
        return value, ""
    match = _AMOUNT.fullmatch(value)
    if match is None:
        return None, ""
    text, unit = match.groups()
    return _number(text), unit if unit in _TIMES else unit.upper()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_amount(number: Any) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number < 1e300
