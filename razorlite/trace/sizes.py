"""Numbers that remember that they were computed from the shape of a tensor."""

import operator
from collections.abc import Callable
from typing import Any

from torch import Tensor

from razorlite.trace import maps
from razorlite.trace.attributes import reckon
from razorlite.trace.ledger import Labels

_PROPORTIONAL = (operator.mul, operator.floordiv)


class Size(int):
    """A whole number that follows from shapes: a slim model computes another one.

    Attributes:
        source: the channels whose number this is, or a multiple or a part of it; None if unknown.
    """

    source: Labels | None = None


class Ratio(float):
    """What division and powers make of a size.

    Attributes:
        source: the channels of whose number it is made; None if unknown.
    """

    source: Labels | None = None


def remembered(value: Any, labels: Tensor | None = None, dim: int | None = None) -> Any:
    """Return sizes in place of the whole numbers in a shape, or of a number.

    Args:
        value: the shape of a tensor, or its size along one dimension, or something else.
        labels: the label map of the tensor.
        dim: the one dimension.
    """
    if isinstance(value, tuple):
        return type(value)([remembered(x, labels, d) for d, x in enumerate(value)])
    if type(value) is not int:
        return value
    size = Size(value)
    if labels is not None and dim is not None and dim % labels.dim() in maps.varying(labels):
        size.source = maps.line(labels, dim)
    return size


def source_of(number: Any) -> Labels | None:
    """Return the channels whose number something was computed from."""
    return number.source if isinstance(number, Size | Ratio) else None


def _plain(number: float) -> float:
    reckon(number)
    return int(number) if isinstance(number, int) else float(number)


def _computed(run: Callable[..., Any], *numbers: Any) -> Any:
    if not all(isinstance(number, int | float) for number in numbers):
        return NotImplemented
    value = run(*map(_plain, numbers))
    result = Size(value) if isinstance(value, int) else Ratio(value)
    sources = [x for x in map(source_of, numbers) if x is not None]
    if len(sources) == 1 and (run in _PROPORTIONAL or isinstance(result, Ratio)):
        result.source = sources[0]
    return result


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
