"""The `razorlite` command. Nothing heavy is imported until a command runs."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from razorlite.cli.command import json_alone
from razorlite.cli.parser import build_parser
from razorlite.core import ranks, shipped
from razorlite.core.errors import RazorliteError
from razorlite.core.streams import logged_to_streams, quiet, safe_streams


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 2 after a user's error, 130 when interrupted.

    1 tells that it is done, but for what it names: errors in data, images that cannot be read.

    Args:
        argv: the words after `razorlite`; those of this process by default. With the environment
            variable RAZORLITE_TRACEBACK set, errors are raised instead of printed.
    """
    level = logging.INFO if ranks.is_first() else logging.ERROR
    with safe_streams(), logged_to_streams(level):
        return _run(sys.argv[1:] if argv is None else argv)


def _run(words: Sequence[str]) -> int:
    args = argparse.Namespace()
    try:
        args = build_parser().parse_args(_one_value_each(words))
        if config := getattr(args, "config", None):
            shipped.find(config)  # a wrong name is told at once, before anything heavy is imported
        if ranks.several():
            ranks.end_with_launcher()
        elif (processes := _processes(args)) > 1:
            from razorlite.engine.starting import start

            return start(words, processes)
        with quiet(getattr(args, "quiet", False)), json_alone(getattr(args, "json", False)):
            args.run(args)
    except KeyboardInterrupt:
        advice = "; to go on, run the same command again with --resume"
        return _complain("interrupted" + (advice if "resume" in args else ""), 130)
    except (RazorliteError, OSError) as error:
        if os.environ.get("RAZORLITE_TRACEBACK"):
            raise
        return _complain(_message(error), getattr(error, "exit_code", 2))
    return 0


def _processes(args: argparse.Namespace) -> int:
    """Return how many processes a command starts in; two where it has work for them, and can."""
    asked: int | None = getattr(args, "processes", 1)
    if asked is not None:
        return asked
    from razorlite.engine.starting import two_if_possible

    return two_if_possible()


def _one_value_each(words: Sequence[str]) -> list[str]:
    """Repeat --set before each of several values that follow one, wherever the command has it."""
    spread: list[str] = []
    for word in words:
        more = len(spread) > 1 and spread[-2] == "--set" and "=" in word and word[0] != "-"
        spread += ["--set", word] if more else [word]
    return spread


def _complain(message: str, code: int) -> int:
    sys.stdout.flush()
    text = f"error: {message}" if code == 2 else message
    if ranks.speaks_first(text):
        print(text, file=sys.stderr)
    return code


def _message(error: Exception) -> str:
    """Return an error's own words, also when a loader's worker process sent it, and its page."""
    text, page = str(error), getattr(error, "page", "")
    if "Original Traceback" in text:
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return f"{text}; see {page}" if page else text
