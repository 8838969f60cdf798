"""The words of `razorlite data …`, and what they run."""

import argparse
from typing import TYPE_CHECKING, Any

from razorlite.cli.command import (
    CONFIG,
    add_command,
    add_json,
    add_set,
    add_size,
    print_json,
    seed,
)
from razorlite.core.errors import DataError
from razorlite.core.files import resolve

if TYPE_CHECKING:
    from razorlite.data.writing import Written

_SOURCE = (
    "folder of a data set (COCO, VOC, YOLO or class folders, told from what is there), a COCO json "
    "file or a data.yaml"
)
_FORMATS = ("coco", "voc", "yolo")
_TOOLS = ("labelme", "cvat", "darknet", "masks")


def add_data(commands: Any) -> None:
    """Add `data` and its actions."""
    about = "check, count, convert and divide data sets"
    examples = "  razorlite data check photos/"
    parser = add_command(commands, "data", _run_check, about, examples)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_check(actions)
    _add_stats(actions)
    _add_convert(actions)
    _add_split(actions)
    _add_anchors(actions)


def add_init(commands: Any) -> None:
    """Add `init`."""
    parser = add_command(
        commands,
        "init",
        _run_init,
        "write a configuration that trains a detector on a data set, and check it\n"
        "Format, splits, classes and image size are told from the folder. The file is for reading\n"
        "and changing.",
        "  razorlite init photos/ --out photos.yaml\n"
        "  razorlite init photos/ --model retinanet/retinanet_r18_fpn_1x_coco --size 320 320",
    )
    parser.add_argument("source", metavar="SOURCE", help=_SOURCE)
    parser.add_argument("--out", default="detector.yaml", metavar="F", help="(detector.yaml)")
    parser.add_argument("--model", metavar="CONFIG", help="whose model and training are taken")
    about = "height and width that images are resized to; by default the commonest, scaled down"
    add_size(parser, "--size", about)
    add_json(parser)


def _run_init(args: argparse.Namespace) -> None:
    _need(args.source)
    from razorlite import recipes

    model = {"model": args.model} if args.model else {}
    size = tuple(args.size) if args.size else None
    remarks = recipes.init(args.source, args.out, size=size, **model)
    if args.json:
        print_json({"out": args.out, "remarks": remarks})
        return
    next_command = f"razorlite train {args.out} --work-dir runs/detector"
    print(*remarks, f"wrote {args.out}; next: {next_command}", sep="\n")


def _add_check(actions: Any) -> None:
    parser = add_command(
        actions,
        "check",
        _run_check,
        "look for what makes training fail or its results wrong\n"
        "Findings are numbered. An error (the same picture in train and test, a class that train\n"
        "lacks, a split that cannot be read) ends with exit code 1; a warning loses something,\n"
        "such as a box that training leaves out; a note is good to know.",
        "  razorlite data check photos/ --json",
    )
    parser.add_argument("source", metavar="SOURCE", help=_SOURCE)
    add_json(parser)


def _add_stats(actions: Any) -> None:
    parser = add_command(
        actions,
        "stats",
        _run_stats,
        "count images, objects, classes and sizes of each split",
        "  razorlite data stats photos/",
    )
    parser.add_argument("source", metavar="SOURCE", help=_SOURCE)
    add_json(parser)


def _add_convert(actions: Any) -> None:
    parser = add_command(
        actions,
        "convert",
        _run_convert,
        "write a data set in another format\n"
        "SOURCE may also be what tools leave: labelme's json files; CVAT for images\n"
        "(annotations.xml beside the images) and its YOLO 1.1; images/ with masks/, PNGs whose\n"
        "values number the objects, in folders named like classes or in none.",
        "  razorlite data convert photos/ --to coco --out photos_coco\n"
        "  razorlite data convert labelled/ --to coco --masks --out labelled_coco",
    )
    parser.add_argument("source", metavar="SOURCE", help=_SOURCE)
    parser.add_argument("--to", required=True, choices=_FORMATS, help="the new format")
    about = "which annotations are taken, where a folder has several kinds"
    parser.add_argument("--from", dest="source_format", choices=(*_FORMATS, *_TOOLS), help=about)
    _add_output(parser)


def _add_split(actions: Any) -> None:
    parser = add_command(
        actions,
        "split",
        _run_split,
        "divide a data set into splits of balanced classes, and write them\n"
        "Equal pictures stay together, and so do those that --group says. Of a data set that\n"
        "comes in splits, --of names those to divide; the others are left out.",
        "  razorlite data split photos/ --out divided --fractions train=0.8 val=0.1 test=0.1\n"
        "  razorlite data split photos/ --out divided --group '^(.*)_frame'\n"
        "  razorlite data split photos/ --out divided --of train --fractions train=0.9 val=0.1",
    )
    parser.add_argument("source", metavar="SOURCE", help=_SOURCE)
    about = "splits of the source to divide, needed where it has several"
    parser.add_argument("--of", nargs="+", default=[], metavar="SPLIT", help=about)
    parser.add_argument(
        "--fractions",
        nargs="+",
        type=_fraction,
        default=[("train", 0.8), ("val", 0.1), ("test", 0.1)],
        metavar="NAME=SHARE",
        help="splits and their shares, 1 in all (train=0.8 val=0.1 test=0.1)",
    )
    parser.add_argument(
        "--group",
        default="",
        metavar="PATTERN",
        help="regular expression; images in whose names it finds the same stay together",
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="another one differs (0)")
    parser.add_argument("--to", choices=_FORMATS, help="format; the source's by default")
    _add_output(parser)


def _add_anchors(actions: Any) -> None:
    parser = add_command(
        actions,
        "anchors",
        _run_anchors,
        "fit a detector's anchors to its training images\n"
        "K-means over the boxes' shapes, then evolution; their number at a cell stays, and so do\n"
        "the model's weights. Prints the share of the boxes that some anchor overlaps by an IoU\n"
        "of 0.5, 0.6 and 0.7, before and after.",
        "  razorlite data anchors mine.yaml --out mine_anchors.yaml",
    )
    parser.add_argument("config", metavar="CONFIG", help=CONFIG)
    parser.add_argument(
        "--out", metavar="F", help="a configuration to write, over CONFIG and --set"
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="another one differs (0)")
    add_json(parser)
    add_set(parser)


def _run_anchors(args: argparse.Namespace) -> None:
    from razorlite.recipes.anchoring import fit_config_anchors, lines

    fitted = fit_config_anchors(args.config, args.overrides, out=args.out, seed=args.seed)
    if args.json:
        print_json(fitted.to_dict())
    else:
        print(*lines(fitted), sep="\n")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="D", help="a new or an empty folder")
    parser.add_argument(
        "--link", action="store_true", help="make links to the images instead of copies"
    )
    parser.add_argument(
        "--masks", action="store_true", help="take masks, too; objects without one are left out"
    )
    add_json(parser)


def _run_check(args: argparse.Namespace) -> None:
    _need(args.source)
    from razorlite.recipes.datasets import check_data

    findings = check_data(args.source)
    if args.json:
        print_json({"findings": [one.to_dict() for one in findings]})
    else:
        lines = [f"{number:3}  {finding}" for number, finding in enumerate(findings, start=1)]
        print(*(lines or ["no faults found"]), sep="\n")
    errors = sum(one.severity == "error" for one in findings)
    if errors:
        raise FoundErrors(f"{errors} of the {len(findings)} findings are errors")


def _need(source: str) -> None:
    """Refuse a path that leads nowhere before anything heavy is imported."""
    if not resolve(source).exists():
        raise DataError(f"no data set {resolve(source)}: there is no such file or folder")


class FoundErrors(DataError):
    """A data set has errors; they are printed."""

    exit_code = 1


def _run_stats(args: argparse.Namespace) -> None:
    _need(args.source)
    from razorlite.recipes.datasets import data_stats, show_stats

    counts = data_stats(args.source)
    if args.json:
        splits = {split: own.to_dict() for split, own in counts.items()}
        print_json({"splits": splits})
    else:
        show_stats(counts)


def _run_convert(args: argparse.Namespace) -> None:
    _need(args.source)
    from razorlite.recipes.datasets import convert_data

    written = convert_data(
        args.source,
        args.out,
        to=args.to,
        source_format=args.source_format,
        link=args.link,
        masks=args.masks,
    )
    _show_written(args, written)


def _run_split(args: argparse.Namespace) -> None:
    _need(args.source)
    from razorlite.recipes.datasets import split_data

    written = split_data(
        args.source,
        args.out,
        dict(args.fractions),
        of=args.of,
        group=args.group,
        seed=args.seed,
        to=args.to,
        link=args.link,
        masks=args.masks,
    )
    _show_written(args, written)


def _show_written(args: argparse.Namespace, written: "Written") -> None:
    if args.json:
        print_json(written.to_dict())
    else:
        print(*written.lines(), sep="\n")


def _fraction(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    try:
        if name and "/" not in name:
            return name, float(share)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"wants NAME=SHARE such as train=0.8, got {text!r}")
