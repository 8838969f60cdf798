"""Docstrings with Args:, Returns: and Raises: as Markdown."""

import inspect
import re
from collections.abc import Iterator

_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example|Examples|Note):$")
_ENTRY = re.compile(r"^([\w*.`\[\], ]{1,60}?): (.*)$")
_TITLES = {"Args": "Arguments"}


def markdown(thing: object) -> str:
    """Return the docstring of a class or a function as Markdown; empty if it has none."""
    text = inspect.getdoc(thing) or ""
    return "\n\n".join(block.strip() for block in _blocks(text)).strip()


def first_line(thing: object) -> str:
    """Return the first paragraph of a docstring in one line."""
    return escaped(" ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split()))


def escaped(text: str) -> str:
    """Return text whose angle brackets and vertical bars outside of `code` are not markup."""
    parts = re.split(r"(`[^`]*`)", text)
    plain = (part.replace("<", "&lt;").replace("|", "&#124;") for part in parts[::2])
    codes = [*parts[1::2], ""]
    return "".join(p + c for p, c in zip(plain, codes, strict=True))


def _blocks(text: str) -> Iterator[str]:
    """Yield the paragraphs before the first section, then each section."""
    title, lines = "", []
    for line in text.splitlines():
        if found := _SECTION.match(line):
            yield _block(title, lines)
            title, lines = found[1], []
        else:
            lines.append(line)
    yield _block(title, lines)


def _block(title: str, lines: list[str]) -> str:
    if not title:
        return escaped("\n".join(lines))
    inner = inspect.cleandoc("\n".join(lines))
    shown = _TITLES.get(title, title)
    if title in ("Example", "Examples"):
        return f"**{shown}**\n\n```python\n{inner}\n```"
    if title in ("Returns", "Yields", "Note"):
        return f"**{shown}** {escaped(inner)}"
    return f"**{shown}**\n\n{_entries(inner)}"


def _entries(text: str) -> str:
    """Return "name: meaning" lines, whose continuations are indented, as a list."""
    items: list[str] = []
    for line in text.splitlines():
        found = _ENTRY.match(line)
        if found and not line.startswith(" "):
            items.append(f"- **`{found[1]}`**: {found[2]}")
        elif items:
            items[-1] += f" {line.strip()}"
        else:
            items.append(line)
    return "\n".join(escaped(item) for item in items)
