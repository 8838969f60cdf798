"""One table of names: what `type: Name` in a configuration stands for."""

import difflib
from collections.abc import Callable
from typing import Any, TypeVar

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import checked

T = TypeVar("T", bound=Callable[..., Any])

_TABLE: dict[str, Callable[..., Any]] = {}


def register(name: str | None = None) -> Callable[[T], T]:
    """Decorate a class or function so that a configuration can name it.

    Args:
        name: the name to use in configurations; the object's own name by default.

    Raises:
        ConfigError: another object already has the name.
    """

    def decorate(thing: T) -> T:
        key = name or thing.__name__
        known = _TABLE.setdefault(key, thing)
        if (known.__module__, known.__qualname__) != (thing.__module__, thing.__qualname__):
            raise ConfigError(
                f"type {key!r} of {thing.__module__} is already taken by {known.__module__}; "
                f"register it under another name"
            )
        _TABLE[key] = thing
        return checked(thing) if isinstance(thing, type) else thing

    return decorate


def lookup(name: str) -> Callable[..., Any]:
    """Return what `name` stands for.

    Raises:
        ConfigError: nothing is registered under the name; the message suggests near names.
    """
    if name in _TABLE:
        return _TABLE[name]
    raise ConfigError(f"no type {name!r}{suggestion(name, _TABLE)}")


def names() -> list[str]:
    """Return all registered names, sorted."""
    return sorted(_TABLE)


def suggestion(word: str, known: Any) -> str:
    """Return "; did you mean 'x'?" for the nearest of `known`, or an empty string."""
    near = difflib.get_close_matches(str(word), [str(k) for k in known], n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
