"""The words of `razorlite config convert`, and what it runs."""

import argparse
import sys
from pathlib import Path
from typing import Any

from razorlite.cli.command import add_command, add_json, print_json


def add_convert_config(actions: Any) -> None:
    """Add `convert` to the actions of `config`."""
    parser = add_command(
        actions,
        "convert",
        _run,
        "write a Python configuration of MMDetection 2.x or 3.x as YAML, and check it\n"
        "Nothing of the file is run: its bases, variables and arithmetic are read. What has no\n"
        "counterpart is named with file and line, here and at the head of the YAML. Parameters\n"
        "keep their names, so that checkpoints load by load_from.",
        "  razorlite config convert mmdetection/configs/fcos/my_fcos.py --out my_fcos.yaml",
    )
    parser.add_argument("source", metavar="FILE.py", help="the configuration, with its bases")
    about = "(FILE.yaml in the current folder)"
    parser.add_argument("--out", metavar="F", help=about)
    add_json(parser)


def _run(args: argparse.Namespace) -> None:
    from razorlite import recipes

    out = args.out or f"{Path(args.source).stem}.yaml"
    remarks = recipes.convert_config(args.source, out)
    if args.json:
        print_json({"out": out, "remarks": remarks})
        return
    for remark in remarks:
        print(remark, file=sys.stderr)
    print(f"wrote {out}")
