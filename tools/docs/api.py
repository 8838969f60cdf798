"""The public names of each package, with signatures and docstrings, as Markdown pages."""

import inspect
import re
from importlib import import_module
from types import ModuleType
from typing import Any

from docstrings import first_line, markdown

PACKAGES = (
    "razorlite",
    "razorlite.cost",
    "razorlite.data",
    "razorlite.deploy",
    "razorlite.distill",
    "razorlite.evaluation",
    "razorlite.prune",
    "razorlite.search",
    "razorlite.space",
    "razorlite.structures",
    "razorlite.trace",
    "razorlite.visual",
)


def pages() -> dict[str, str]:
    """Return a page for each package, by its file name."""
    return {f"reference/api/{name}.md": page(name) for name in PACKAGES}


def page(package: str) -> str:
    """Return the page of a package: what it says of itself, then each of its public names."""
    module = import_module(package)
    things = {name: getattr(module, name) for name in public(module)}
    told = [entry(name, thing) for name, thing in things.items()]
    return "\n\n".join([f"# {package}", markdown(module), *told]) + "\n"


def public(module: ModuleType) -> list[str]:
    """Return the names that a package gives, without sub-packages and dunders."""
    named = (name for name in module.__all__ if not name.startswith("_"))
    return [name for name in named if not inspect.ismodule(getattr(module, name))]


def entry(name: str, thing: Any) -> str:
    """Return the section of a class, a function or a value."""
    if not callable(thing):
        return f"## {name}\n\n`{name} = {_short(repr(thing))}`"
    parts = [f"## {name}", f"```python\n{_kind(thing)}{name}{signature(thing)}\n```"]
    return "\n\n".join([*parts, markdown(thing), *_methods(thing)])


def signature(thing: Any) -> str:
    """Return a call's arguments, one a line where they are long; empty where none are known."""
    try:
        text = str(inspect.signature(thing))
    except (TypeError, ValueError):
        return ""
    text = re.sub(r"razorlite\.(?:\w+\.)*|torch\.(?=Tensor)|collections\.abc\.|typing\.", "", text)
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)  # annotations that are kept as text
    text = re.sub(r"<(?:class|function) '?([\w.]+)'?[^>]*>", r"\1", text)
    return text if len(text) <= 80 else _broken(text)


def _broken(text: str) -> str:
    """Break a signature after each comma that stands between arguments."""
    depth, lines, line = 0, [], ""
    inner, _, ending = text[1:].rpartition(")")
    for char in inner:
        depth += (char in "([{") - (char in ")]}")
        line += char
        if char == "," and not depth:
            lines.append(f"    {line.strip()}")
            line = ""
    return "(\n" + "\n".join([*lines, f"    {line.strip()},"]) + f"\n){ending}"


def _kind(thing: Any) -> str:
    return "class " if inspect.isclass(thing) else ""


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."


def _methods(thing: Any) -> list[str]:
    """Return the documented public methods and properties that a class itself defines."""
    if not inspect.isclass(thing):
        return []
    own = {n: m for n, m in vars(thing).items() if not n.startswith("_")}
    return [_method(name, member) for name, member in own.items() if _is_documented(member)]


def _is_documented(member: Any) -> bool:
    function = getattr(member, "__func__", member)
    known = inspect.isfunction(function) or isinstance(function, property)
    return known and bool(inspect.getdoc(function))


def _method(name: str, member: Any) -> str:
    function = getattr(member, "__func__", member)
    if isinstance(function, property):
        return f"### {name}\n\n{markdown(function)}"
    return f"### {name}\n\n```python\n{name}{signature(function)}\n```\n\n{markdown(function)}"


def index() -> str:
    """Return a table of the packages and what they say of themselves."""
    rows = [f"| [{name}](api/{name}.md) | {first_line(import_module(name))} |" for name in PACKAGES]
    return "\n".join(["# Python", "", _BEFORE, "", "| package | |", "|---|---|", *rows]) + "\n"


_BEFORE = "What the packages give under `__all__`: these names stay, all others may change."
