"""The words of `razorlite predict`, and what it runs."""

import argparse
import json
from pathlib import Path
from typing import Any

from razorlite.cli.command import add_command, add_json, add_subnet, count, model_words, share


def add_predict(commands: Any) -> None:
    """Add `predict`."""
    parser = add_command(
        commands,
        "predict",
        _run,
        "find objects in images with a trained or exported model\n"
        "Each SOURCE is an image, a folder, a pattern in quotes, a video file or the number of a\n"
        "camera. MODEL is a run folder, a checkpoint or an exported file; of a checkpoint that\n"
        "does not carry its configuration (a downloaded one), name both: --model CONFIG\n"
        "CHECKPOINT. One that cannot be read does not stop the others.",
        "  razorlite predict photos/ --model runs/fcos --out found\n"
        "  razorlite predict photo.jpg --model fcos.onnx --json\n"
        "  razorlite predict 0 --limit 100 --model runs/fcos --out seen",
    )
    about = "images, folders, patterns, videos, cameras"
    parser.add_argument("source", nargs="+", type=_source, metavar="SOURCE", help=about)
    parser.add_argument(
        "--model",
        nargs="+",
        required=True,
        metavar="MODEL",
        help="run folder, checkpoint, exported file, or CONFIG CHECKPOINT",
    )
    add_subnet(parser)
    about = "folder for pictures, predictions.json and coco.json"
    parser.add_argument("--out", metavar="D", help=about)
    parser.add_argument(
        "--score", type=share, default=0.3, metavar="S", help="lowest score shown (0.3)"
    )
    parser.add_argument(
        "--batch-size",
        type=count("number of images"),
        default=1,
        metavar="N",
        help="images at a time",
    )
    parser.add_argument(
        "--limit", type=count("number of images"), metavar="N", help="images or frames at most"
    )
    parser.add_argument(
        "--augment",
        action="store_true",
        help="look at each image in six ways (three sizes, mirrored) and merge what is found",
    )
    add_json(parser)


def _source(text: str) -> str | int:
    """Return a source, of a bare number that is no file the number of a camera."""
    return int(text) if text.isdecimal() and not Path(text).exists() else text


def _run(args: argparse.Namespace) -> None:
    from razorlite import recipes
    from razorlite.deploy import AUGMENTED, PLAIN
    from razorlite.recipes.predicting import lines

    found = recipes.predict(
        args.source,
        *model_words(args),
        subnet=args.subnet,
        out=args.out,
        score_threshold=args.score,
        batch_size=args.batch_size,
        limit=args.limit,
        views=AUGMENTED if args.augment else PLAIN,
    )
    if args.json:
        print(json.dumps({"format": 1, "images": [one.to_dict(args.score) for one in found]}))
    else:
        print(*lines(found, args.score), sep="\n")
