"""Numbers that remember that they were computed from the shape of a tensor."""

import operator
from collections.abc import Callable
from typing import Any

_ARITHMETIC = ["add", "sub", "mul", "floordiv", "mod", "pow", "truediv"]


class Size(int):
    """A whole number that follows from shapes: a slim model computes another one."""


class Ratio(float):
    """What division and powers make of a size."""


def remembered(value: Any) -> Any:
    """Return sizes in place of the whole numbers in a shape, or of a number."""
    if isinstance(value, tuple):
        return type(value)([remembered(x) for x in value])
    return Size(value) if type(value) is int else value


def _plain(number: float) -> float:
    return int(number) if isinstance(number, int) else float(number)


def _computed(run: Callable[..., Any], *numbers: Any) -> Any:
    if not all(isinstance(number, int | float) for number in numbers):
        return NotImplemented
    value = run(*map(_plain, numbers))
    return Size(value) if isinstance(value, int) else Ratio(value)


def _install(kind: type) -> None:
    for name in ("add", "sub", "mul", "floordiv", "mod", "pow", "truediv"):
        run = getattr(operator, name)
        setattr(kind, f"__{name}__", lambda x, y, run=run: _computed(run, x, y))
        setattr(kind, f"__r{name}__", lambda x, y, run=run: _computed(run, y, x))
    for name in ("neg", "abs"):
        run = getattr(operator, name)
        setattr(kind, f"__{name}__", lambda x, run=run: _computed(run, x))


_install(Size)
_install(Ratio)
