"""The pages of docs/, their fenced blocks, commands and links."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
READABLE = [*PAGES, ROOT / "README.md", ROOT / "configs/README.md", ROOT / "CONTRIBUTING.md"]
_BLOCK = re.compile(r"(?:^<!-- ([^\n]*?) -->\n)?^( *)```(\w*)\n(.*?)^ *```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        mark: the comment in the line before: "run", "file: NAME", or nothing.
        language: what stands behind the fence.
        text: the lines.
    """

    mark: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(mark, language, text) for mark, _, language, text in found]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each razorlite command of a shell block."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            words = shlex.split(part.replace("…", "x"), comments=True)
            if words[:1] == ["razorlite"]:
                yield words[1:]


def links(page: Path) -> list[str]:
    """Return the targets of links, outside of code."""
    text = re.sub(r"^ *```.*?^ *```$|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.M | re.S)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(page: Path) -> set[str]:
    """Return what `#…` behind a page may be: its headings in small letters with hyphens."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
