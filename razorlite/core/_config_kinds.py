"""Which registered classes fit where, and how messages speak of them."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any, Literal, get_origin

from razorlite.core._config_signature import is_list_like, signature_of, simplify, type_hints
from razorlite.core.registry import lookup, names, suggestion

SCALARS = (int, float, bool, str, type(None))


def suits(value: Any, option: Any) -> bool:
    """Return whether an option of a union is of the same kind as a value: block, list, scalar."""
    origin = get_origin(simplify(option)) or simplify(option)
    listed = isinstance(origin, type) and is_list_like(origin)
    scalar = (
        origin is Literal
        or origin in SCALARS
        or (isinstance(origin, type) and issubclass(origin, PurePath))
    )
    if isinstance(value, dict):
        return not listed and not scalar
    if isinstance(value, list):
        return listed
    return isinstance(value, str) and origin in (Callable, Literal, type)


def has_call(target: Any) -> bool:
    """Return whether the instances of a class can be called."""
    return isinstance(target, type) and any("__call__" in vars(c) for c in target.__mro__)


def is_instance(value: Any, expected: type) -> bool:
    try:
        return isinstance(value, expected)
    except TypeError:  # a Protocol that cannot be checked
        return not isinstance(value, (*SCALARS, list))


def is_default(expected: type, block: Mapping[str, Any]) -> bool:
    """Return whether a block stands for `expected` itself without naming it."""
    if not dataclasses.is_dataclass(expected) and not _is_registered(expected):
        return False
    if "type" not in block or "type" in signature_of(expected).annotations:
        return True
    return not fitting((expected,))


def _is_registered(expected: type) -> bool:
    return any(lookup(name) is expected for name in names())


def fits(target: Callable[..., Any], expected: tuple[type, ...]) -> bool:
    """Return whether calling `target` gives one of the expected classes, as far as it tells."""
    made = target if isinstance(target, type) else type_hints(target).get("return")
    if not expected or not isinstance(made, type):
        return True
    try:
        return issubclass(made, expected)
    except TypeError:  # a Protocol that cannot be checked
        return True


def surely_fits(target: Callable[..., Any], expected: tuple[type, ...]) -> bool:
    """Return whether calling `target` gives one of the expected classes, and it says so."""
    made = target if isinstance(target, type) else type_hints(target).get("return")
    return isinstance(made, type) and bool(expected) and fits(target, expected)


def fitting(expected: tuple[type, ...]) -> list[str]:
    return [
        name for name in names() if isinstance(lookup(name), type) and fits(lookup(name), expected)
    ]


def offer(expected: tuple[type, ...]) -> str:
    known = fitting(expected) if expected else []
    return f"; known: {_some(known)}" if known else ""


def _some(words: Iterable[str], most: int = 12) -> str:
    words = list(words)
    return ", ".join(words[:most]) + (", ..." if len(words) > most else "")


def title(target: Any) -> str:
    """Return "FPN " or "FPN: " style prefixes; dataclasses are known by their place alone."""
    return "" if dataclasses.is_dataclass(target) else f"{getattr(target, '__name__', target)} "


def unknown_key(target: Any, key: str, known: Mapping[str, Any]) -> str:
    hint = suggestion(key, known) or (f"; it takes {_some(known)}" if known else "")
    return f"{title(target)}takes no {key!r}{hint}" if title(target) else f"unknown key{hint}"
