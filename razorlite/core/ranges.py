"""What a number or a list may be, written once in a signature's annotations.

`num_classes: Count` is a whole number of at least 1. The check of a configuration reads it with
file and line, and a decorated class refuses other values when it is called from Python:

    @register()
    class LinearHead(nn.Module):
        def __init__(self, *, num_classes: Count, dropout: ShareBelowOne = 0.0) -> None:
"""

import functools
import inspect
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin

from razorlite.core._config_signature import (
    is_list_like,
    rules_of,
    show,
    simplify,
    type_hints,
    union_options,
)
from razorlite.core.errors import ConfigError

C = TypeVar("C", bound=type)


class Rule(ABC):
    """What must hold for a value besides its type."""

    @abstractmethod
    def holds(self, value: Any) -> bool:
        """Return whether a value is allowed; a value of another type is none of its business."""

    @abstractmethod
    def __str__(self) -> str:
        """Return the rule in words that follow "a number" or "a list"."""


@dataclass(frozen=True)
class Range(Rule):
    """A finite number between two ends.

    Attributes:
        least: least allowed.
        most: most allowed.
        above: must be above it.
        below: must be below it.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def holds(self, value: Any) -> bool:
        if not isinstance(value, int | float):
            return True
        return (
            math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        ends = {"at least": self.least, "above": self.above}
        ends |= {"at most": self.most, "below": self.below}
        words = " and ".join(f"{word} {end:g}" for word, end in ends.items() if end is not None)
        return f"of {words}" if words.startswith("at") else words


@dataclass(frozen=True)
class Rising(Rule):
    """Numbers of which none is less than the one before.

    Attributes:
        strictly: none may be equal to the one before, either.
    """

    strictly: bool = False

    def holds(self, value: Any) -> bool:
        if not isinstance(value, list | tuple):
            return True
        return all(a < b if self.strictly else a <= b for a, b in itertools.pairwise(value))

    def __str__(self) -> str:
        return "that rises" if self.strictly else "that never falls"


@dataclass(frozen=True)
class Filled(Rule):
    """A list, text or block that is not empty."""

    def holds(self, value: Any) -> bool:
        return not hasattr(value, "__len__") or len(value) > 0

    def __str__(self) -> str:
        return "that is not empty"


@dataclass(frozen=True)
class Odd(Rule):
    """A whole number that 2 does not divide, such as the side of a kernel with a middle."""

    def holds(self, value: Any) -> bool:
        return not isinstance(value, int) or value % 2 == 1

    def __str__(self) -> str:
        return "that is odd"


@dataclass(frozen=True)
class Distinct(Rule):
    """A list without repeats."""

    def holds(self, value: Any) -> bool:
        return not isinstance(value, list | tuple) or len(set(map(repr, value))) == len(value)

    def __str__(self) -> str:
        return "without repeats"


Count = Annotated[int, Range(least=1)]
Whole = Annotated[int, Range(least=0)]
Positive = Annotated[float, Range(above=0)]
NonNegative = Annotated[float, Range(least=0)]
Share = Annotated[float, Range(least=0, most=1)]
ShareBelowOne = Annotated[float, Range(least=0, below=1)]
PositiveShare = Annotated[float, Range(above=0, most=1)]
OpenShare = Annotated[float, Range(above=0, below=1)]
ByteValue = Annotated[int, Range(least=0, most=255)]
Seed = Annotated[int, Range(least=0, below=2**63)]
Size = tuple[Count, Count]
Shares = Annotated[tuple[Share, Share], Rising()]
PositiveSpan = Annotated[tuple[Positive, Positive], Rising()]
Widths = Annotated[list[Count], Filled()]
Strides = Annotated[tuple[Count, ...], Filled()]
Scales = Annotated[tuple[Positive, ...], Filled()]
Weights = Annotated[tuple[NonNegative, ...], Filled()]
Deviations = tuple[Positive, Positive, Positive, Positive]
Kernel = Annotated[int, Range(least=1), Odd()]
FrozenStages = Annotated[int, Range(least=-1)]
Milestones = Annotated[tuple[Count, ...], Rising(strictly=True)]
Indices = Annotated[tuple[Whole, ...], Filled(), Rising(strictly=True)]


def checked(kind: C) -> C:
    """Decorate a class whose constructor keeps the rules of its annotations.

    Registered classes need no decoration. The constructor then raises a ConfigError that names the
    argument, what it wants and what came.
    """
    original = kind.__init__  # type: ignore[misc]
    hints = type_hints(kind)
    names = [name for name, hint in hints.items() if _has_rules(hint)]
    if not names or getattr(original, "checks", False):
        return kind

    @functools.wraps(original)
    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        _enforce(kind, original, {name: hints[name] for name in names}, (self, *args), kwargs)
        original(self, *args, **kwargs)

    construct.checks = True  # type: ignore[attr-defined]
    kind.__init__ = construct  # type: ignore[misc]
    return kind


def broken(value: Any, annotation: Any) -> Iterator[tuple[Any, Rule]]:
    """Yield the values within a value that break a rule of an annotation, with the rule."""
    for rule in rules_of(annotation):
        if not rule.holds(value):
            yield value, rule
            return
    options = union_options(annotation)
    if len(options) > 1:
        trials = [list(broken(value, option)) for option in options if _may_be(value, option)]
        yield from min(trials, key=len, default=[])
        return
    for item, kind in _items(value, simplify(options[0])):
        yield from broken(item, kind)


def _items(value: Any, annotation: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the items of a list or mapping with their own annotations."""
    origin, args = get_origin(annotation), get_args(annotation)
    if not isinstance(origin, type) or not args:
        return
    if is_list_like(origin) and isinstance(value, list | tuple):
        fixed = origin is tuple and args[-1] is not ...
        yield from zip(value, args if fixed else [args[0]] * len(value), strict=False)
    elif isinstance(value, Mapping) and len(args) == 2:
        yield from ((item, args[1]) for item in value.values())


def _may_be(value: Any, option: Any) -> bool:
    plain = simplify(option)
    origin = get_origin(plain) or plain
    if not isinstance(origin, type):
        return True
    listed = isinstance(value, list | tuple)
    return (
        listed if is_list_like(origin) else not listed and (value is None) == (origin is type(None))
    )


def _has_rules(annotation: Any) -> bool:
    nested = [arg for arg in get_args(simplify(annotation)) if arg is not ...]
    return bool(rules_of(annotation)) or any(_has_rules(arg) for arg in nested)


def _enforce(
    kind: type,
    constructor: Callable[..., Any],
    hints: Mapping[str, Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> None:
    try:
        given = inspect.signature(constructor).bind(*args, **kwargs).arguments
    except TypeError:
        return  # the call itself will say what is wrong with it
    for name, hint in hints.items():
        for value, rule in broken(given.get(name), hint):
            what = "a number" if isinstance(rule, Range) else "a value"
            raise ConfigError(f"{kind.__name__}.{name} wants {what} {rule}, got {show(value)}")
