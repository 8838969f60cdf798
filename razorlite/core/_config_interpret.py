"""A configuration read against annotations: faults first, then the objects.

Interpreting a value gives a thunk that builds it; nothing is built before the whole tree is known
to be right.
"""

import collections.abc
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

from razorlite.core._config_build import Place, Thunk, build_all, call, lines_of, nothing
from razorlite.core._config_kinds import (
    SCALARS,
    fits,
    has_call,
    is_instance,
    suits,
    title,
    unknown_key,
)
from razorlite.core._config_load import (
    Config,
    LocatedConfigError,
    raise_faults,
)
from razorlite.core._config_signature import (
    classes_of,
    describe,
    is_list_like,
    rules_of,
    signature_of,
    simplify,
    union_options,
)
from razorlite.core._config_targets import Targets
from razorlite.core.registry import lookup, suggestion

T = TypeVar("T")


_WHOLE = re.compile("-?[0-9]{1,18}")
_NOWHERE = Place(Config({}, sources={}))


class Factory(Generic[T]):
    """A block with `type` that is built when called, anew each time, nested blocks included.

    As an annotation, `Factory[T]` wants a complete block; `Partial[T]` one whose missing arguments
    the caller gives.

    Args:
        target: the class or function to call, or its registered name.
        kwargs: its keyword arguments as plain values; nested blocks are built by each call.

    Attributes:
        type: the name that the configuration used.
        target: the class or function to call.
        kwargs: as given.
    """

    def __init__(
        self,
        target: str | Callable[..., T],
        kwargs: Mapping[str, Any] | None = None,
        *,
        place: Place = _NOWHERE,
    ) -> None:
        self.type = target if isinstance(target, str) else getattr(target, "__name__", str(target))
        self.kwargs = dict(kwargs or {})
        self.target = lookup(target) if isinstance(target, str) else target
        self._place = place

    def __call__(self, *args: Any, **kwargs: Any) -> T:
        """Build the object; arguments given here have precedence over the configuration's.

        Raises:
            ConfigError: an argument is wrong; the message starts with the block's file and line.
        """
        reading = Reading()
        block = {key: value for key, value in self.kwargs.items() if key not in kwargs}
        thunks = reading.arguments(self.target, block, self._place, partial=True)
        raise_faults(reading.faults)
        built: T = call(self.target, args, thunks, kwargs, self._place)
        return built

    def left(self) -> dict[str, bool]:
        """Return the arguments that the configuration leaves to the call: which are required."""
        signature = signature_of(self.target)
        names = [name for name in signature.annotations if self.kwargs.get(name) is None]
        return {**{name: name in signature.required for name in names}, **signature.given}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.type!r}, {self.kwargs!r})"


class Partial(Factory[T]):
    """A `Factory` whose missing arguments are given in the call: `optimizer(parameters)`."""


class Reading(Targets):
    """Interprets values and collects faults."""

    def value(self, value: Any, annotation: Any, place: Place) -> Thunk:
        """Return a thunk that builds `value` as `annotation` wants it; note faults."""
        before = len(self.faults)
        thunk = self._plain_value(value, simplify(annotation), place)
        if len(self.faults) == before:
            for rule in rules_of(annotation):
                if not rule.holds(value):
                    return self._wrong(place, describe(annotation), value)
        return thunk

    def _plain_value(self, value: Any, annotation: Any, place: Place) -> Thunk:
        origin, args = get_origin(annotation) or annotation, get_args(annotation)
        if len(union_options(annotation)) > 1:
            return self._union(value, union_options(annotation), place)
        if origin is Literal:
            return self._literal(value, args, place)
        if origin is collections.abc.Callable:
            return self._callable(value, args, place)
        if not isinstance(origin, type) or origin in (Any, object):
            return lambda: _copy(value)
        if issubclass(origin, Factory):
            return self._factory(value, args[0] if args else Any, place, origin)
        if is_list_like(origin):
            return self._list(value, annotation, place)
        if origin in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
            return self._dict(value, args or (str, Any), place)
        if origin is type:
            return self._named(value, place)
        if origin in SCALARS or issubclass(origin, PurePath):
            return self._scalar(value, origin, place)
        return self._block(value, origin, place)

    def arguments(
        self, target: Callable[..., Any], block: Mapping[str, Any], place: Place, *, partial: bool
    ) -> dict[str, Thunk]:
        """Return thunks for the keyword arguments of a call; note unknown and missing ones."""
        signature = signature_of(target)
        thunks: dict[str, Thunk] = {}
        for key, value in block.items():
            annotation = signature.annotation(key)
            if annotation is None:
                thunks[key] = self._note(
                    place / key, unknown_key(target, key, signature.annotations)
                )
            elif value is not None or _accepts(None, annotation, place):
                thunks[key] = self.value(value, annotation, place / key)
        missing = () if partial else [key for key in signature.required if key not in thunks]
        for key in missing:
            thunks[key] = self._note(place, f"{title(target)}needs {key!r}")
        return thunks

    def _union(self, value: Any, options: tuple[Any, ...], place: Place) -> Thunk:
        trials = []
        for option in options:
            reading = Reading()
            trials.append((option, reading.value(value, option, place), reading.faults))
        good = [trial for trial in trials if not trial[2]]
        if good:
            exact = [trial for trial in good if simplify(trial[0]) is type(value)]
            return (exact or good)[0][1]
        suited = [trial for trial in trials if suits(value, trial[0])]
        if suited:
            # that a thing of another kind is wanted says the least
            at_type = f"{place / 'type'}: "
            odd = [any(fault.startswith(at_type) for fault in trial[2]) for trial in suited]
            ranked = sorted(range(len(suited)), key=lambda i: (odd[i], len(suited[i][2])))
            self.faults += suited[ranked[0]][2]
            return nothing
        return self._wrong(place, " or ".join(describe(option) for option in options), value)

    def _literal(self, value: Any, args: tuple[Any, ...], place: Place) -> Thunk:
        if any(type(arg) is type(value) and arg == value for arg in args):
            return lambda: value
        return self._wrong(place, describe(Literal[args]), value, suggestion(str(value), args))

    def _scalar(self, value: Any, expected: type, place: Place) -> Thunk:
        if issubclass(expected, PurePath) and isinstance(value, str | PurePath):
            return lambda: Path(value)
        if expected is float and type(value) in (int, float):
            number = float(value)
            return (
                (lambda: number)
                if math.isfinite(number)
                else self._wrong(place, "a finite number", value)
            )
        if isinstance(value, expected) and not (expected is int and isinstance(value, bool)):
            return lambda: value
        hint = "; put it in quotes" if expected is str and isinstance(value, int | float) else ""
        return self._wrong(place, describe(expected), value, hint)

    def _list(self, value: Any, annotation: Any, place: Place) -> Thunk:
        if not isinstance(value, list | tuple):
            return self._wrong(place, describe(annotation), value)
        origin, args = get_origin(annotation) or annotation, get_args(annotation)
        fixed = origin is tuple and args and args[-1] is not ...
        if fixed and len(args) != len(value):
            return self._wrong(place, describe(annotation), value)
        kinds = args if fixed else [args[0] if args else Any] * len(value)
        thunks = [
            self.value(v, k, place / i) for i, (v, k) in enumerate(zip(value, kinds, strict=True))
        ]
        make = origin if origin in (tuple, set, frozenset) else list
        return lambda: make(build_all(dict(enumerate(thunks))).values())

    def _dict(self, value: Any, args: tuple[Any, ...], place: Place) -> Thunk:
        if not isinstance(value, dict):
            return self._wrong(place, "a block of names and values", value)
        key_kind, kind = args
        thunks = {}
        for name, item in value.items():
            key = int(name) if simplify(key_kind) is int and _WHOLE.fullmatch(name) else name
            self.value(key, key_kind, place / name)
            if item is not None or _accepts(None, kind, place):
                thunks[key] = self.value(item, kind, place / name)
        return lambda: build_all(thunks)

    def _named(self, value: Any, place: Place) -> Thunk:
        """A registered class or function, named."""
        if not isinstance(value, str):
            if callable(value):
                return lambda: value
            return self._wrong(place, "a registered name", value)
        target = self._lookup(value, (), place)
        return lambda: target

    def _callable(self, value: Any, args: tuple[Any, ...], place: Place) -> Thunk:
        """A named function, or a block: an object that can be called, or a partial call."""
        if not isinstance(value, dict):
            return self._named(value, place)
        target, kwargs = self._target(value, (), place)
        if target is None:
            return nothing
        result = classes_of(args[1]) if len(args) == 2 else ()
        if has_call(target) and not (result and fits(target, result)):
            return self._call_of(target, kwargs, place)
        return self._deferred(value["type"], target, kwargs, place, Partial)

    def _factory(self, value: Any, kind: Any, place: Place, made: type[Factory[Any]]) -> Thunk:
        if not isinstance(value, dict):
            return (lambda: value) if callable(value) else self._wrong(place, "a block", value)
        target, kwargs = self._target(value, classes_of(kind), place)
        if target is None:
            return nothing
        name = target if kwargs.keys() == value.keys() else value["type"]
        return self._deferred(name, target, kwargs, place, made)

    def _block(self, value: Any, expected: type, place: Place) -> Thunk:
        """A dataclass by its fields, or any class by its registered name."""
        if not isinstance(value, dict):
            if is_instance(value, expected):
                return lambda: value
            return self._wrong(place, f"a block ({expected.__name__})", value)
        target, kwargs = self._target(value, (expected,), place)
        return nothing if target is None else self._call_of(target, kwargs, place)

    def _call_of(self, target: Callable[..., Any], kwargs: dict[str, Any], place: Place) -> Thunk:
        thunks = self.arguments(target, kwargs, place, partial=False)
        return lambda: call(target, (), thunks, {}, place)

    def _deferred(
        self, name: Any, target: Any, kwargs: dict[str, Any], place: Place, made: type[Factory[Any]]
    ) -> Thunk:
        self.arguments(target, kwargs, place, partial=issubclass(made, Partial))
        return lambda: made(name, kwargs, place=place)


def interpret(config: Config, schema: type[T]) -> T:
    """Check a whole configuration against a class, and build it.

    Raises:
        ConfigError: all faults found, one a line: those of single values, and what the
            constructors of blocks say whose values are sound.
    """
    reading = Reading()
    place = Place(config)
    thunks = reading.arguments(schema, config.tree, place, partial=False)
    try:
        built = call(schema, (), thunks, {}, place)
    except LocatedConfigError as error:
        raise_faults([*reading.faults, *lines_of(error)])
        raise
    raise_faults(reading.faults)
    return built  # type: ignore[no-any-return]


def _copy(value: Any) -> Any:
    """Copy nested dicts and lists, so that an object that changes its own leaves the tree alone."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _accepts(value: Any, annotation: Any, place: Place) -> bool:
    reading = Reading()
    reading.value(value, annotation, place)
    return not reading.faults
