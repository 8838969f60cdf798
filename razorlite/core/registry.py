"""One table of names: what `type: Name` in a configuration stands for."""

import difflib
import importlib
import types
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
    """Return what `name` stands for: a registered name, or the dotted path of a class or function.

    A dotted path is imported.

    Raises:
        ConfigError: nothing is registered under the name (the message suggests near names), or
            the path leads to no public class or function.
    """
    if name in _TABLE:
        return _TABLE[name]
    if is_path(name):
        return _imported(name)
    raise ConfigError(f"no type {name!r}{suggestions(name, _TABLE)}")


def is_path(name: str) -> bool:
    """Return whether a name is a dotted path such as `my_net.MyConv`, not a registered one."""
    return "." in name and name not in _TABLE


def _imported(path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    if not all(part.isidentifier() and part[0] != "_" for part in path.split(".")):
        raise ConfigError(f"no type {path!r}; a dotted path is that of a public class or function")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError(f"no type {path!r}: cannot import {module!r}: {reason}") from error
    if not isinstance(found, type | types.FunctionType):
        raise ConfigError(f"no type {path!r}: {module!r} has no class or function {name!r}")
    return found


def names() -> list[str]:
    """Return all registered names, sorted."""
    return sorted(_TABLE)


def suggestions(word: str, known: Any) -> str:
    """Return "; did you mean 'x', 'y'?" for the nearest names, and how to list all."""
    near = difflib.get_close_matches(str(word), [str(k) for k in known], n=3, cutoff=0.6)
    meant = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
    return f"{meant} (all: razorlite config types)"


def suggestion(word: str, known: Any) -> str:
    """Return "; did you mean 'x'?" for the nearest of `known`, or an empty string."""
    folded = {str(k).casefold(): str(k) for k in known}
    near = difflib.get_close_matches(str(word).casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""
