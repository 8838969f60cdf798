"""The words of `razorlite lr-find`, and what it runs."""

import argparse
from pathlib import Path
from typing import Any

from razorlite.cli.command import (
    CONFIG,
    add_command,
    add_json,
    add_processes,
    add_set,
    add_subnet,
    count,
    positive,
    print_json,
)
from razorlite.core import ranks


def add_lr_find(commands: Any) -> None:
    """Add `lr-find`."""
    parser = add_command(
        commands,
        "lr-find",
        _run,
        "find the learning rate of a training, by a range test on a copy of its model\n"
        "The rate grows from step to step until the loss runs away. Suggested is where the\n"
        "smoothed loss falls fastest. The folder gets lr_find.png and lr_find.json; the model\n"
        "that was trained for it is thrown away, and no run folder is touched.",
        "  razorlite lr-find mine.yaml --out lr\n"
        "  razorlite lr-find mine.yaml --lowest 1e-5 --highest 1 --steps 200 --json",
    )
    parser.add_argument("config", metavar="CONFIG", help=CONFIG)
    parser.add_argument("--out", default="lr_find", metavar="D", help="folder (lr_find)")
    about = "learning rate of the first step (1e-6)"
    parser.add_argument("--lowest", type=positive, default=1e-6, metavar="LR", help=about)
    about = "learning rate of the last step (10)"
    parser.add_argument("--highest", type=positive, default=10.0, metavar="LR", help=about)
    about = "steps of training at most (100)"
    parser.add_argument(
        "--steps", type=count("number of steps"), default=100, metavar="N", help=about
    )
    add_subnet(parser)
    add_json(parser, "print one JSON object: suggestion, rates, losses")
    add_set(parser)
    add_processes(parser)


def _run(args: argparse.Namespace) -> None:
    from razorlite import recipes
    from razorlite.recipes.rate_finding import Range, lines

    found = recipes.find_lr(
        args.config,
        args.out,
        overrides=args.overrides,
        subnet=args.subnet,
        tried=Range(args.lowest, args.highest, args.steps),
    )
    if args.json:
        print_json(found.to_dict())
    elif ranks.is_first():
        print(*lines(found), Path(args.out) / "lr_find.png", sep="\n")
