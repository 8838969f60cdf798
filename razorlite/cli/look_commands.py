"""The words of `razorlite browse` and `razorlite analyze`, and what they run."""

import argparse
import json
from typing import Any

from razorlite.cli.command import CONFIG, add_command, add_json, add_set, count


def add_browse(commands: Any) -> None:
    """Add `browse`."""
    parser = add_command(
        commands,
        "browse",
        _run_browse,
        "draw training images with their annotations, before and after augmentation\n"
        "The folder gets a picture of each image and an index.html.",
        "  razorlite browse mine.yaml --out look",
    )
    parser.add_argument("config", metavar="CONFIG", help=CONFIG)
    parser.add_argument("--out", default="browse", metavar="D", help="folder (browse)")
    parser.add_argument(
        "--images", type=count("number of images"), default=16, metavar="N", help="how many (16)"
    )
    add_set(parser)


def add_analyze(commands: Any) -> None:
    """Add `analyze`."""
    parser = add_command(
        commands,
        "analyze",
        _run_analyze,
        "compare trainings: curves in one plot, all logged values in one table\n"
        "The folder gets runs.png and runs.csv; steps, seconds a step and the best of each metric\n"
        "are printed.",
        "  razorlite analyze runs/a runs/b --out compared",
    )
    parser.add_argument("folder", nargs="+", metavar="RUN", help="run folders of train")
    parser.add_argument("--out", default="analyze", metavar="D", help="folder (analyze)")
    add_json(parser)


def _run_browse(args: argparse.Namespace) -> None:
    from razorlite import recipes

    print(recipes.browse(args.config, args.out, images=args.images, overrides=args.overrides))


def _run_analyze(args: argparse.Namespace) -> None:
    from razorlite import recipes
    from razorlite.recipes.looking import show_runs

    found = recipes.analyze(args.folder, args.out)
    if args.json:
        print(json.dumps({"format": 1, "runs": found}))
    else:
        show_runs(found)
