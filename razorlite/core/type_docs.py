"""What the registered types are and take, in words, and configurations with their defaults."""

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from razorlite.core._config_kinds import SCALARS, is_default
from razorlite.core._config_load import Config
from razorlite.core._config_signature import (
    classes_of,
    describe,
    show,
    signature_of,
    simplify,
    union_options,
)
from razorlite.core.config import Factory
from razorlite.core.errors import ConfigError
from razorlite.core.registry import lookup, names, suggestion

_INDENT = " " * 6
_NO_DEFAULT = inspect.Parameter.empty


def list_types() -> dict[str, dict[str, str]]:
    """Return all registered types: section to name to first line of documentation."""
    sections: dict[str, dict[str, str]] = {}
    for name in names():
        thing = lookup(name)
        sections.setdefault(_section(thing.__module__), {})[name] = _first_line(thing)
    return dict(sorted(sections.items()))


def explain_type(name: str) -> str:
    """Return what a registered type is, takes and does, as text.

    Raises:
        ConfigError: there is no such type; suggests a near one.
    """
    if name not in names():
        raise ConfigError(f"no type {name!r}{suggestion(name, names())} (razorlite config types)")
    thing = lookup(name)
    lines = [f"{name}: {_first_line(thing)}", ""]
    for argument in arguments(thing):
        ending = "" if argument.default is None else f", by default {argument.default}"
        lines.append(f"  {argument.key}: {argument.wants}{ending}")
        if text := argument.meaning:
            lines += textwrap.wrap(text, 94, initial_indent=_INDENT, subsequent_indent=_INDENT)
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Argument:
    """One key of a block: what it wants, its default as text (None: it must be given), its meaning.

    Attributes:
        key: as a configuration writes it.
        wants: the kind of value, in words.
        default: as text; None if there is none.
        meaning: what the docstring says; empty if nothing.
    """

    key: str
    wants: str
    default: str | None
    meaning: str


def arguments(target: Any) -> list[Argument]:
    """Return what a block of a configuration that calls `target` may say, in order."""
    docs, defaults = _argument_docs(target), _defaults(target)
    found = []
    for key, annotation in signature_of(target).annotations.items():
        default = defaults.get(key, _NO_DEFAULT)
        shown = None if default is _NO_DEFAULT else _shown(default)
        found.append(Argument(key, describe(annotation), shown, docs.get(key, "")))
    return found


def with_defaults(config: Config, schema: type) -> dict[str, Any]:
    """Return a configuration's tree with the defaults that its blocks leave out.

    Blocks of unknown types stay as they are. Nothing is imported.
    """
    return _filled(config.tree, schema)


def _filled(block: Mapping[str, Any], target: Any) -> dict[str, Any]:
    annotations = signature_of(target).annotations
    tree = {key: _filled_value(value, annotations.get(key, Any)) for key, value in block.items()}
    for key, value in _defaults(target).items():
        if key not in tree and value is not _NO_DEFAULT and key in annotations:
            tree[key] = _filled_value(_plain(value), annotations[key])
    return tree


def _filled_value(value: Any, annotation: Any) -> Any:
    if isinstance(value, list):
        inner = _argument_of(annotation, -1)
        return [_filled_value(item, inner) for item in value]
    if not isinstance(value, dict):
        return value
    name = value.get("type")
    if isinstance(name, str) and name in names():
        return _filled(value, lookup(name))
    kinds = [_unwrapped(kind) for kind in classes_of(annotation)]
    for kind in kinds:
        if isinstance(kind, type) and name is None and is_default(kind, value):
            return _filled(value, kind)
    inner = _argument_of(annotation, -1)
    return {key: _filled_value(item, inner) for key, item in value.items()}


def _unwrapped(kind: Any) -> Any:
    return kind if not (isinstance(kind, type) and issubclass(kind, Factory)) else None


def _argument_of(annotation: Any, index: int) -> Any:
    """Return an argument of the list or dict among an annotation's options."""
    for option in union_options(annotation):
        arguments = [a for a in getattr(simplify(option), "__args__", ()) if a is not ...]
        if arguments:
            return arguments[index]
    return Any


def _defaults(target: Any) -> dict[str, Any]:
    """Return the defaults of a call's arguments; those made anew each time are made."""
    if dataclasses.is_dataclass(target):
        fields = {f.name: f for f in dataclasses.fields(target)}
        return {name: _field_default(f) for name, f in fields.items() if f.init}
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {
        p.name: p.default for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }


def _field_default(field: Any) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return _NO_DEFAULT if field.default is dataclasses.MISSING else field.default


def _plain(value: Any) -> Any:
    """Return a default as plain values, objects by their name."""
    if isinstance(value, SCALARS):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Factory):
        return {"type": value.type, **value.kwargs}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    name = getattr(value, "__name__", type(value).__name__)
    return {"type": name} if isinstance(value, type) else name


def _shown(value: Any) -> str:
    plain = _plain(value)
    return str(plain) if isinstance(plain, list | dict) else show(plain)


def _section(module: str) -> str:
    parts = module.removeprefix("razorlite.").split(".")
    paired = parts[0] in ("models", "torch") or parts[:2] == ["data", "transforms"]
    return ".".join(parts[:2]) if paired else parts[0]


def _first_line(thing: Any) -> str:
    text = inspect.getdoc(thing) or ""
    line = text.partition("\n\n")[0].replace("\n", " ").strip()
    own = vars(thing).get("__doc__") if isinstance(thing, type) else text
    return line if own and not line.startswith(f"{getattr(thing, '__name__', '')}(") else ""


def _argument_docs(thing: Any) -> dict[str, str]:
    """Return what the docstrings of a class and its constructor say of each argument."""
    found: dict[str, str] = {}
    for text in (inspect.getdoc(thing), inspect.getdoc(getattr(thing, "__init__", None))):
        section = re.search(r"(?:Args|Attributes):\n((?:    .*\n?|\n)+)", text or "")
        for match in re.finditer(
            r"(?m)^    (\w+): (.*(?:\n        .*)*)", section[1] if section else ""
        ):
            found[match[1]] = " ".join(match[2].split())
    return found
