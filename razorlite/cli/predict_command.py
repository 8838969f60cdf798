"""The words of `razorlite predict`, and what it runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from razorlite.cli.command import (
    add_command,
    add_json,
    add_subnet,
    count,
    model_words,
    print_json,
    share,
)
from razorlite.core.errors import DataError, RazorliteError

if TYPE_CHECKING:
    from razorlite.recipes.predicting import Heat


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
        "CHECKPOINT. An image that cannot be read does not stop the others; the exit code is 1\n"
        "then, and 2 where none can be read.",
        "  razorlite predict photos/ --model runs/fcos --out found\n"
        "  razorlite predict photo.jpg --model fcos.onnx --json\n"
        "  razorlite predict 0 --limit 100 --model runs/fcos --out seen\n"
        "  razorlite predict photos/ --model runs/fcos --out seen --heatmap neck\n"
        "  razorlite predict a.jpg --model R --out seen --heatmap-method hirescam --heatmap neck",
        aliases=["infer"],
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
    _add_heat(parser)
    add_json(parser)


def _add_heat(parser: argparse.ArgumentParser) -> None:
    about = "draw where this module of the model responds, into the folder heat/ of --out"
    parser.add_argument("--heatmap", metavar="MODULE", help=about)
    parser.add_argument(
        "--heatmap-method",
        choices=("activation", "eigencam", "gradcam", "hirescam"),
        default="activation",
        help="mean over the channels (activation, the default), their first direction (eigencam), "
        "or what the score of a detection comes from: of channels (gradcam), of cells (hirescam)",
    )
    parser.add_argument(
        "--detection",
        type=count("number of a detection"),
        default=1,
        metavar="N",
        help="which one gradcam and hirescam explain, 1 for the best",
    )


def _heat(args: argparse.Namespace) -> "Heat | None":
    """Return what --heatmap asks for.

    Raises:
        RazorliteError: one of its options stands alone.
    """
    from razorlite.recipes.predicting import Heat

    if args.heatmap is None and (args.heatmap_method != "activation" or args.detection > 1):
        raise RazorliteError("--heatmap-method and --detection go with --heatmap MODULE")
    if args.heatmap_method not in ("gradcam", "hirescam") and args.detection > 1:
        raise RazorliteError("--detection goes with --heatmap-method gradcam or hirescam")
    if args.heatmap is None:
        return None
    return Heat(args.heatmap, args.heatmap_method, args.detection - 1)


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
        heat=_heat(args),
    )
    if args.json:
        print_json({"images": [one.to_dict(args.score) for one in found]})
    else:
        print(*lines(found, args.score), sep="\n")
    unread = sum(bool(one.fault) for one in found)
    if unread:
        raise UnreadImages(f"{unread} of {len(found)} images could not be read; see above")


class UnreadImages(DataError):
    """Some images could not be read; they are named, and the others are done."""

    exit_code = 1
