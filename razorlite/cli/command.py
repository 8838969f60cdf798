"""How a command and its help are put together."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, NoReturn, TextIO

from razorlite.core import ranks
from razorlite.core.errors import RazorliteError
from razorlite.core.registry import suggestion
from razorlite.core.streams import printed_to_stderr

SCHEMA_VERSION = 2


class Parser(argparse.ArgumentParser):
    """Complains in one line."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the words of this command, and complain about those that it does not know."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            hint = suggestion(unknown[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is, and exit with 2."""
        self.exit(2, f"error: {message}; see: {self.prog} --help\n")


def count(what: str) -> Callable[[str], int]:
    """Return a type of arguments: whole numbers of at least 1, such as of "images"."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"wants a {what}, got {text!r}")
        return int(text)

    return parse


def seed(text: str) -> int:
    """Parse a whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"wants a whole number of at least 0, got {text!r}")
    return int(text)


def share(text: str) -> float:
    """Parse a number from 0 to 1."""
    with suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"wants a number from 0 to 1, got {text!r}")


def positive(text: str) -> float:
    """Parse a number above 0."""
    with suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"wants a number above 0, got {text!r}")


CONFIG = "YAML file, or the name of a shipped one (razorlite config list)"
_SET = "change values of the configuration, for instance --set train.max_epochs=12 data.holdout=0.1"


def add_set(parser: argparse.ArgumentParser) -> None:
    """Add --set."""
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE …", help=_SET
    )


def add_subnet(parser: argparse.ArgumentParser) -> None:
    """Add --subnet."""
    parser.add_argument(
        "--subnet",
        metavar="F",
        help="a subnet file of search or prune, in the place of the configuration's `subnet`",
    )


def add_size(parser: argparse.ArgumentParser, name: str, about: str) -> None:
    """Add an option that takes a height and a width in pixels."""
    pixels = count("size in pixels")
    parser.add_argument(name, nargs=2, type=pixels, metavar=("H", "W"), help=about)


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Add --processes."""
    about = (
        "share the work among N processes of this machine, one GPU each; torchrun does the same "
        "for several machines"
    )
    _add_processes(parser, 1, about)


def add_two_processes(parser: argparse.ArgumentParser) -> None:
    """Add --processes to a command that has work for two, and takes them where there are cores."""
    about = (
        "two share the work, which is the default where there are cores for both; more of them "
        "share the search and the evaluations alone"
    )
    _add_processes(parser, None, about)


def _add_processes(parser: argparse.ArgumentParser, default: int | None, about: str) -> None:
    kind = count("number of processes")
    parser.add_argument("--processes", type=kind, default=default, metavar="N", help=about)


def add_json(parser: argparse.ArgumentParser, about: str = "print one JSON object") -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help=about)


_stdout: ContextVar[TextIO | None] = ContextVar("_stdout", default=None)  # None: sys.stdout


@contextmanager
def json_alone(when: bool) -> Iterator[None]:
    """Keep standard output for `print_json` within the block; the rest goes to standard error."""
    before = _stdout.set(sys.stdout if when else None)
    try:
        with printed_to_stderr(when):
            yield
    finally:
        _stdout.reset(before)


def print_json(values: Mapping[str, Any]) -> None:
    """Print an object for scripts, once however many processes torchrun has started.

    Its `schema_version` is raised when a key changes its meaning or goes.
    """
    if ranks.is_first():
        text = json.dumps({"schema_version": SCHEMA_VERSION, **values})
        print(text, file=_stdout.get() or sys.stdout)


def model_words(args: argparse.Namespace) -> list[str]:
    """Return MODEL, or CONFIG and CHECKPOINT."""
    if len(args.model) > 2:
        raise RazorliteError(f"expected MODEL, or CONFIG CHECKPOINT; got {' '.join(args.model)}")
    return list(args.model)


def add_command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], None],
    about: str,
    examples: str,
    aliases: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """Add a command; `about` is its line in the list, `examples` end its own help."""
    first, _, rest = about.partition("\n")
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        aliases=aliases,
        help=first,
        description=f"{first[0].upper()}{first[1:]}.\n{rest}",
        epilog=f"example:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    about = "show no progress: results, warnings and errors alone"
    parser.add_argument("-q", "--quiet", action="store_true", default=argparse.SUPPRESS, help=about)
    parser.set_defaults(run=run)
    return parser
