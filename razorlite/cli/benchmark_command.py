"""The words of `razorlite benchmark`, and what it runs."""

import argparse
from typing import Any

from razorlite.cli.command import add_command, add_json, add_size, count, print_json


def add_benchmark(commands: Any) -> None:
    """Add `benchmark`."""
    parser = add_command(
        commands,
        "benchmark",
        _run,
        "measure latency, throughput, memory and accuracy of models and exported files\n"
        "All do the same work on this machine's CPU, pixels in and detections out, and take\n"
        "turns, so that a busy machine slows all alike.",
        "  razorlite benchmark runs/fcos fcos.onnx --threads 1 2\n"
        "  razorlite benchmark runs/fcos small.onnx --accuracy mine.yaml --csv times.csv",
    )
    parser.add_argument(
        "model", nargs="+", metavar="FILE", help="run folders, checkpoints and exported files"
    )
    add_size(parser, "--shape", "height and width in pixels; each model's own by default")
    parser.add_argument(
        "--threads",
        nargs="+",
        type=count("number of threads"),
        metavar="N",
        help="1 and all processors by default",
    )
    parser.add_argument(
        "--batch",
        type=count("number of images"),
        default=8,
        metavar="N",
        help="images at a time for images/s (8)",
    )
    parser.add_argument(
        "--rounds",
        type=count("number of rounds"),
        default=30,
        metavar="N",
        help="how often each is timed (30)",
    )
    parser.add_argument(
        "--accuracy", metavar="CONFIG", help="measure the metric, too, on this one's test images"
    )
    parser.add_argument(
        "--bf16", action="store_true", help="measure models in PyTorch in bfloat16, too"
    )
    parser.add_argument("--csv", metavar="F", help="table that the rows are added to")
    add_json(parser)


def _run(args: argparse.Namespace) -> None:
    from razorlite.recipes.benchmarking import benchmark, show

    result = benchmark(
        args.model,
        shape=tuple(args.shape) if args.shape else None,
        threads=args.threads,
        batch=args.batch,
        rounds=args.rounds,
        accuracy=args.accuracy,
        csv_file=args.csv,
        bf16=args.bf16,
    )
    if args.json:
        print_json(result.to_dict())
    else:
        show(result)
