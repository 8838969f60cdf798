"""What a configuration may say, the types it may name, and the commands, as Markdown pages."""

import argparse
import re
from collections.abc import Iterator
from typing import Any

from docstrings import escaped, first_line

from razorlite.cli.parser import build_parser
from razorlite.core import type_docs
from razorlite.distill import DistillerConfig
from razorlite.engine.config import TrainConfig
from razorlite.prune import PruneConfig
from razorlite.recipes.experiment import DataConfig, Experiment, LoadFrom, TrainLoaderConfig
from razorlite.search.config import SearchConfig

BLOCKS: dict[str, type] = {
    "The file": Experiment,
    "data": DataConfig,
    "data.train, val, test, search": TrainLoaderConfig,
    "train": TrainConfig,
    "load_from": LoadFrom,
    "search": SearchConfig,
    "distiller": DistillerConfig,
    "prune": PruneConfig,
}


def configuration() -> str:
    """Return the page of the blocks of a configuration file, with defaults and meanings."""
    sections = (_block(title, kind) for title, kind in BLOCKS.items())
    return "\n\n".join(["# Configuration: every key", _KEYS, *sections]) + "\n"


def types() -> str:
    """Return the page of all that `type` may name, section by section."""
    parts = ["# Configuration: every type", _TYPES]
    for section, names in type_docs.list_types().items():
        parts.append(f"## {section}")
        parts += [f"### {name}\n\n```text\n{type_docs.explain_type(name)}\n```" for name in names]
    return "\n\n".join(parts) + "\n"


def commands() -> str:
    """Return the page of every command's help."""
    helps = (f"## {name}\n\n```text\n{text}\n```" for name, text in _helps("", build_parser()))
    return "\n\n".join(["# Commands", _COMMANDS, *helps]) + "\n"


def _block(title: str, kind: type) -> str:
    heading = f"## {title}" if kind is Experiment else f"## `{title}`"
    rows = "\n".join(_rows(kind))
    table = f"| key | wants | default | meaning |\n|---|---|---|---|\n{rows}"
    return f"{heading}\n\n{first_line(kind)}\n\n{table}"


def _rows(kind: type) -> Iterator[str]:
    for one in type_docs.arguments(kind):
        default = "" if one.default is None else f"`{one.default}`".replace("|", "\\|")
        yield f"| `{one.key}` | {escaped(one.wants)} | {default} | {escaped(one.meaning)} |"


def _helps(before: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Yield each command's words and help, those of its actions behind it."""
    for name, command in _inner(parser).items():
        words = f"{before} {name}".strip()
        yield f"razorlite {words}", re.sub(r"\x1b\[[\d;]*m", "", command.format_help()).strip()
        yield from _helps(words, command)


def _inner(parser: argparse.ArgumentParser) -> dict[str, Any]:
    actions = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return next((dict(action.choices) for action in actions), {})


_KEYS = """\
The whole file is checked against this before anything is built. `razorlite config show CONFIG
--defaults` prints one with all defaults; [Configuration](../configuration.md) explains how files
are written."""
_TYPES = """\
What a block may name as `type`, and what each takes; in a terminal `razorlite config types NAME`.
The dotted path of a class of your own may stand there, too."""
_COMMANDS = "`python tools/NAME.py` is the same as `razorlite NAME`."
