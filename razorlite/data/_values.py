"""Single values of annotation files, written as numbers, text or MongoDB's objects."""

import math
import re
import reprlib
from typing import Any

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,30})")
_MONGO_NUMBERS = ("$numberInt", "$numberLong", "$numberDouble", "$numberDecimal")
_FLAGS = {"0": False, "false": False, "no": False, "": False, "1": True, "true": True, "yes": True}
_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60


def identity(value: Any) -> int | str | None:
    """Return an identifier, the same for 1, 1.0, "1" and {"$numberInt": "1"}; None if it is none.

    Text that is no whole number, and MongoDB's {"$oid": "…"}, stay text.
    """
    if type(value) is int:
        return value
    value = _unwrapped(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and value.strip():
        text = value.strip()
        return int(text) if _WHOLE.fullmatch(text) else text
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def number(value: Any) -> float | None:
    """Return a number, perhaps NaN or infinite, that may be written as text; None if it is none."""
    if type(value) is float:
        return value
    value = _unwrapped(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]


def finite(value: Any) -> float | None:
    """Return a number that is neither NaN nor infinite; None if it is none."""
    known = number(value)
    return known if known is not None and math.isfinite(known) else None


def flag(value: Any) -> bool | None:
    """Return whether something is marked: 0 and 1, booleans, either as text; None if neither.

    What is missing (None) is not marked.
    """
    if value is None or value is False or value is True:
        return bool(value)
    value = _unwrapped(value)
    if isinstance(value, str):
        return _FLAGS.get(value.strip().lower())
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


def shown(value: Any) -> str:
    """Return a value in one short line, for messages."""
    return _short.repr(value)


def _unwrapped(value: Any) -> Any:
    """Return what one of MongoDB's objects of a single value holds."""
    if isinstance(value, dict) and len(value) == 1:
        ((key, inner),) = value.items()
        if key == "$oid" or key in _MONGO_NUMBERS:
            return inner
    return value
