"""The words of `razorlite browse` and `razorlite analyze`, and what they run."""

import argparse
from pathlib import Path
from typing import Any

from razorlite.cli.command import CONFIG, add_command, add_json, add_set, count, print_json
from razorlite.core.errors import DataError


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
    add_json(parser)
    add_set(parser)


def add_analyze(commands: Any) -> None:
    """Add `analyze`."""
    parser = add_command(
        commands,
        "analyze",
        _run_analyze,
        "compare trainings, and say what is wrong with predictions\n"
        "Of run folders with metrics.jsonl the folder gets runs.png (curves) and runs.csv; steps,\n"
        "seconds a step and the best of each metric are printed. Of predictions, the\n"
        "detections.json of razorlite test --out, or COCO's results with --truth, it gets\n"
        "index.html with error types (TIDE), confusion matrix, curves, best thresholds,\n"
        "calibration and the worst images, the plots, errors.json and classes.csv.",
        "  razorlite analyze runs/a runs/b --out compared\n"
        "  razorlite test CONFIG CHECKPOINT --out tested && razorlite analyze tested\n"
        "  razorlite analyze results.json --truth annotations/val.json --json",
    )
    about = "run folders of train; or predictions, a file or its folder"
    parser.add_argument("source", nargs="+", metavar="RUN_OR_JSON", help=about)
    parser.add_argument("--out", default="analyze", metavar="D", help="folder (analyze)")
    about = "COCO json with the annotations, where the predictions do not hold them"
    parser.add_argument("--truth", metavar="F", help=about)
    parser.add_argument(
        "--max-detections",
        type=count("number of detections"),
        metavar="N",
        help="of an image and class that count, the best (as in test, else 100)",
    )
    add_json(parser)


def _run_browse(args: argparse.Namespace) -> None:
    from razorlite import recipes

    page = recipes.browse(args.config, args.out, images=args.images, overrides=args.overrides)
    if args.json:
        print_json({"page": str(page)})
    else:
        print(page)


def _run_analyze(args: argparse.Namespace) -> None:
    from razorlite import recipes
    from razorlite.recipes.analysing import is_predictions, show_quality
    from razorlite.recipes.looking import show_runs

    predictions = [source for source in args.source if is_predictions(source)]
    runs = [source for source in args.source if source not in predictions]
    if len(predictions) > 1 or (not predictions and (args.truth or args.max_detections)):
        raise DataError(f"expected one file of predictions, got {len(predictions)}")
    found: dict[str, Any] = {}
    if runs:
        found["runs"] = recipes.analyze(runs, args.out)
    for source in predictions:
        found["predictions"] = recipes.analyze_predictions(
            source, args.out, args.truth, args.max_detections
        )
    if args.json:
        print_json(found)
        return
    if runs:
        show_runs(found["runs"])
    if predictions:
        show_quality(found["predictions"])
        print(Path(args.out) / "index.html")
