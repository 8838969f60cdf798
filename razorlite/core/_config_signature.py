"""What a class or function takes: names, types and which of them are required."""

import dataclasses
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import PurePath
from types import SimpleNamespace
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)


@dataclasses.dataclass(frozen=True)
class Signature:
    """The keys of a block that spells out a call.

    Attributes:
        annotations: type of each parameter that can be given by name.
        required: names without a default.
        given: names that the program gives and no block may name (`Given`): which have no default.
        extra: type of further keys where the callable has `**kwargs`, else None.
    """

    annotations: Mapping[str, Any]
    required: tuple[str, ...]
    extra: Any = None
    given: Mapping[str, bool] = dataclasses.field(default_factory=dict)

    def annotation(self, key: str) -> Any:
        """Return the type of a parameter, or None if there is no such parameter."""
        return self.annotations.get(key, self.extra)


T = TypeVar("T")
_GIVEN = object()
Given = Annotated[T, _GIVEN]
"""Annotates a parameter that the program gives, not a configuration."""

_RULES: dict[Any, dict[str, Any]] = {}


def annotate(target: Callable[..., Any], annotations: Mapping[str, Any]) -> None:
    """Give parameters of a class that is not ours annotations with rules, for configurations."""
    _RULES[target] = dict(annotations)
    signature_of.cache_clear()


@cache
def signature_of(target: Any) -> Signature:
    """Read the signature of a class or function; what is not annotated takes anything."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # some classes written in C do not tell
        return Signature({}, (), extra=Any)
    hints = type_hints(target) | _RULES.get(target, {})
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    given = {p.name: p.default is p.empty for p in named if _is_given(hints.get(p.name))}
    named = [p for p in named if p.name not in given]
    if getattr(target.__init__, "__module__", "") == "torch.nn.modules.module":
        return Signature({}, ())  # a module without a constructor of its own takes nothing
    extra = next((hints.get(p.name, Any) for p in parameters if p.kind is p.VAR_KEYWORD), None)
    return Signature(
        {p.name: hints.get(p.name, Any) for p in named},
        tuple(p.name for p in named if p.default is p.empty),
        extra,
        given,
    )


def _is_given(annotation: Any) -> bool:
    return get_origin(annotation) is Annotated and _GIVEN in get_args(annotation)


def type_hints(target: Any) -> dict[str, Any]:
    """Return the resolved annotations of a callable; those that cannot be resolved are left out."""
    target = getattr(target, "func", target)  # functools.partial
    if not isinstance(target, type):
        return _resolve(target)
    if dataclasses.is_dataclass(target):
        return _resolve(target)
    method = target.__new__ if target.__init__ is object.__init__ else target.__init__  # type: ignore[misc]
    return _resolve(method)


def _resolve(owner: Any) -> dict[str, Any]:
    try:
        return get_type_hints(owner, include_extras=True)
    except Exception:  # one of them names what only a type checker imports: take the others
        scope = getattr(owner, "__globals__", vars(sys.modules.get(owner.__module__, sys)))
        raw = getattr(owner, "__annotations__", {})
        return {n: h for name in raw for n, h in _resolve_one(name, raw[name], scope).items()}


def _resolve_one(name: str, hint: Any, scope: dict[str, Any]) -> dict[str, Any]:
    try:
        owner = SimpleNamespace(__annotations__={name: hint})
        return get_type_hints(owner, globalns=scope, include_extras=True)
    except Exception:
        return {}


def simplify(annotation: Any) -> Any:
    """Strip what does not matter for a value: Annotated, Final, aliases, type variables."""
    while True:
        origin = get_origin(annotation)
        if origin in (Annotated, Final, ClassVar):
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, dataclasses.InitVar):
            annotation = annotation.type
        elif isinstance(annotation, TypeVar):
            annotation = annotation.__bound__ or Any
        elif hasattr(annotation, "__supertype__"):  # NewType
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        elif isinstance(annotation, str) or annotation is inspect.Parameter.empty:
            return Any
        else:
            return type(None) if annotation is None else annotation


def rules_of(annotation: Any) -> tuple[Any, ...]:
    """Return the rules (see `razorlite.core.ranges`) of an annotation's whole value."""
    if get_origin(annotation) is not Annotated:
        return ()
    inner, *extras = get_args(annotation)
    return (*rules_of(inner), *(extra for extra in extras if hasattr(extra, "holds")))


def union_options(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation alone; members keep their rules."""
    plain = simplify(annotation)
    if get_origin(plain) in (Union, types.UnionType):
        return tuple(option for arg in get_args(plain) for option in union_options(arg))
    return (annotation if rules_of(annotation) else plain,)


def classes_of(annotation: Any) -> tuple[type, ...]:
    """Return the classes that an annotation names; none stands for anything."""
    plain = [simplify(option) for option in union_options(annotation)]
    options = [get_origin(option) or option for option in plain]
    if any(not isinstance(option, type) or option in (Any, object) for option in options):
        return ()
    return tuple(option for option in options if option is not type(None))


_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    Any: "anything",
}


def describe(annotation: Any) -> str:
    """Return an annotation in words, for messages."""
    options = union_options(annotation)
    if len(options) > 1:
        return " or ".join(dict.fromkeys(describe(option) for option in options))
    rules = [str(rule) for rule in rules_of(annotation) if str(rule)]
    return " ".join([_describe_plain(simplify(options[0])), *rules])


def _describe_plain(annotation: Any) -> str:
    origin, args = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Literal:
        return f"one of {', '.join(repr(arg) for arg in args)}"
    if origin in _WORDS:
        return _WORDS[origin]
    if origin in (Callable, type):
        return "a registered name"
    if not isinstance(origin, type):
        return "a block"
    if issubclass(origin, PurePath):
        return "a path"
    if origin is tuple and args and args[-1] is not ...:
        return f"a list of {len(args)} ({', '.join(describe(arg) for arg in args)})"
    if is_list_like(origin):
        return f"a list, each item {describe(args[0])}" if args else "a list"
    return "a block"


def is_list_like(origin: type) -> bool:
    """Return whether a YAML list stands for objects of this class."""
    return not issubclass(origin, str) and origin.__name__ in _LIST_LIKE


_LIST_LIKE = {
    *("list", "tuple", "set", "frozenset"),
    *("Sequence", "MutableSequence", "Iterable", "Collection", "Set"),
}


def show(value: Any) -> str:
    """Return a configuration value as a short text, for messages."""
    if isinstance(value, dict):
        return "a block"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
