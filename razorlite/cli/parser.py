"""The words of every command, and its help."""

import argparse
from typing import Any

from razorlite.cli.benchmark_command import add_benchmark
from razorlite.cli.command import (
    CONFIG,
    Parser,
    add_command,
    add_json,
    add_processes,
    add_set,
    add_size,
    add_subnet,
    add_two_processes,
    count,
    seed,
)
from razorlite.cli.convert_command import add_convert_config
from razorlite.cli.data_commands import add_data, add_init
from razorlite.cli.look_commands import add_analyze, add_browse
from razorlite.cli.predict_command import add_predict
from razorlite.cli.rate_command import add_lr_find
from razorlite.cli.running import (
    run_config_cat,
    run_config_check,
    run_config_list,
    run_config_show,
    run_config_types,
    run_cost,
    run_demo,
    run_export,
    run_prune,
    run_search,
    run_test,
    run_train,
)
from razorlite.core.version import __version__

_ABOUT = """\
Make object detectors smaller and faster: search a supernet for a good small network, retrain it
with distillation, prune it, and measure what you got.

Start with:
  razorlite demo            the whole pipeline on drawn shapes, in minutes, with a report
  razorlite config list     the configurations that come with razorlite
"""


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="razorlite", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"razorlite {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in _COMMANDS:
        add(commands)
    return parser


def _add_train(commands: Any) -> None:
    parser = add_command(
        commands,
        "train",
        run_train,
        "train a model, a supernet, a chosen subnet or a distilled student\n"
        "What is trained follows from the configuration: a `mutator` block makes a supernet,\n"
        "`subnet` a chosen subnet, a `distiller` block a student. The run folder gets the merged\n"
        "configuration, metrics.jsonl, checkpoints/last.pt and best.pt, and pictures. With\n"
        "--resume an interrupted run goes on exactly where it stopped.",
        "  razorlite train spos/fcos_spos_bccd_supernet --work-dir runs/supernet\n"
        "  razorlite train CONFIG --processes 2",
    )
    parser.add_argument("config", metavar="CONFIG", help=CONFIG)
    _add_work_dir(parser)
    add_subnet(parser)
    add_set(parser)
    _add_resume(parser)
    about = "try all of it out on two batches of each split; nothing is kept"
    parser.add_argument("--fast-dev-run", action="store_true", help=about)
    add_json(parser, "print the last evaluation as one JSON object")
    add_processes(parser)


def _add_test(commands: Any) -> None:
    parser = add_command(
        commands,
        "test",
        run_test,
        "measure a checkpoint on the configuration's test images",
        "  razorlite test CONFIG runs/supernet/checkpoints/best.pt --subnet subnet.yaml\n"
        "  razorlite test CONFIG CHECKPOINT --out tested && razorlite analyze tested",
    )
    _add_config_and_checkpoint(parser)
    add_subnet(parser)
    about = "folder for detections.json, which razorlite analyze takes"
    parser.add_argument("--out", metavar="D", help=about)
    add_json(parser, "print the metrics as one JSON object")
    add_set(parser)


def _add_search(commands: Any) -> None:
    parser = add_command(
        commands,
        "search",
        run_search,
        "search a trained supernet for the best subnet within a budget\n"
        "The run folder gets subnet.yaml (the best one), journal.jsonl (every trial) and a plot\n"
        "of accuracy against MACs.",
        "  razorlite search CONFIG runs/supernet/checkpoints/best.pt --work-dir runs/search\n"
        "  razorlite search CONFIG CHECKPOINT --workers ray:HEAD:6379",
    )
    _add_config_and_checkpoint(parser)
    _add_work_dir(parser)
    add_set(parser)
    _add_resume(parser)
    add_processes(parser)
    parser.add_argument(
        "--workers",
        metavar="ray[:ADDRESS]",
        help="score candidates on a Ray cluster: of this machine, or the one at ADDRESS",
    )
    add_json(parser, "print the best subnet as one JSON object")


def _add_prune(commands: Any) -> None:
    parser = add_command(
        commands,
        "prune",
        run_prune,
        "remove the least important channels of a trained model, down to a budget\n"
        "The run folder gets the smaller model's checkpoint and its subnet.yaml. The budget is a\n"
        "share of the model that is given, or an amount such as 300M. With --resume an\n"
        "interrupted run goes on exactly where it stopped. --show prints what could be pruned:\n"
        "channel groups, what stays and why, and the share of the model that is in reach.\n"
        "--sensitivity cuts 25, 50 and 75 % of each group alone and writes what the model loses.",
        "  razorlite prune CONFIG runs/fcos/checkpoints/best.pt --set prune.budget.macs=50%\n"
        "  razorlite prune CONFIG --show",
    )
    parser.add_argument("config", metavar="CONFIG", help=CONFIG)
    about = "a .pt file that training wrote; not needed with --show"
    parser.add_argument("checkpoint", metavar="CHECKPOINT", nargs="?", help=about)
    parser.add_argument(
        "--show", action="store_true", help="print the channel groups; prune nothing"
    )
    about = "cut each channel group alone and measure what the model loses; prune nothing"
    parser.add_argument("--sensitivity", action="store_true", help=about)
    about = "print one JSON object: the subnet; the groups of --show, the cuts of --sensitivity"
    add_json(parser, about)
    _add_work_dir(parser)
    add_set(parser)
    _add_resume(parser)


def _add_cost(commands: Any) -> None:
    parser = add_command(
        commands,
        "cost",
        run_cost,
        "count a model's MACs and parameters\n"
        "MACs are multiply-adds of convolutions and matrix products for one image, counted\n"
        "exactly; thop's count is shown beside them.",
        "  razorlite cost CONFIG --shape 240 320 --subnet runs/search/subnet.yaml",
    )
    parser.add_argument("config", metavar="CONFIG", help=CONFIG)
    add_subnet(parser)
    about = "height and width of the input in pixels; the configuration's `shape` by default"
    add_size(parser, "--shape", about)
    add_json(parser, "print one JSON object: params, macs")
    add_set(parser)


def _add_demo(commands: Any) -> None:
    parser = add_command(
        commands,
        "demo",
        run_demo,
        "run the whole pipeline on drawn shapes, in minutes\n"
        "Trains a supernet, searches it, retrains the result with distillation, prunes it, and\n"
        "ends with a table and one HTML report. Needs no data and no GPU. With --resume an\n"
        "interrupted demo goes on where it stopped.",
        "  razorlite demo --work-dir runs/demo",
    )
    _add_work_dir(parser)
    _add_resume(parser)
    about = "another one trains and searches otherwise, on the same images (0)"
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help=about)
    add_two_processes(parser)
    add_json(parser, "print the rows of the table as one JSON object")


def _add_export(commands: Any) -> None:
    parser = add_command(
        commands,
        "export",
        run_export,
        "write a trained model as one file for ONNX Runtime or libtorch\n"
        "The file takes RGB pixels from 0 to 255 and gives boxes, scores and labels. It is run\n"
        "and compared with PyTorch, and kept only if both agree.",
        "  razorlite export runs/fcos --out fcos.onnx\n"
        "  razorlite export CONFIG checkpoint.pt --format torchscript\n"
        "  razorlite export runs/fcos --int8 --out fcos.int8.onnx",
    )
    parser.add_argument(
        "model", nargs="+", metavar="MODEL", help="run folder, checkpoint, or CONFIG CHECKPOINT"
    )
    add_subnet(parser)
    parser.add_argument(
        "--format",
        choices=("onnx", "torchscript"),
        help="by default what the name of --out ends in, else onnx",
    )
    parser.add_argument("--out", metavar="F", help="the file; beside the checkpoint by default")
    parser.add_argument("--images", metavar="SOURCE", help="images to compare on; noise by default")
    about = "ONNX in 8 bits, calibrated on training images; MODEL may be a file in float"
    parser.add_argument("--int8", action="store_true", help=about)
    about = "ONNX whose layers compute in float16; MODEL may be a file in float"
    parser.add_argument("--half", action="store_true", help=about)
    about = "training images that int8 is calibrated on (128)"
    parser.add_argument("--calibration", type=count("number of images"), metavar="N", help=about)
    about = "points of the metric that int8 may lose (1)"
    parser.add_argument("--max-drop", type=float, metavar="P", help=about)
    add_json(parser)


def _add_config(commands: Any) -> None:
    about = "list, show and check configurations, and the types they name"
    examples = "  razorlite config check my_detector.yaml --set train.max_epochs=12"
    parser = add_command(commands, "config", run_config_list, about, examples)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    about = "list the shipped configurations"
    add_json(add_command(actions, "list", run_config_list, about, "  razorlite config list"))
    for name, run, about in (
        ("show", run_config_show, "print a configuration merged with its bases and --set values"),
        (
            "cat",
            run_config_cat,
            "print a configuration as its file is written, but for blocks that --set changes",
        ),
        (
            "check",
            run_config_check,
            "check all that training would refuse; prints OK or all faults with lines\n"
            "The model is built and run on shapes alone; files and images are looked at if they\n"
            "are there. Modules that the file names are imported only with --allow-imports.",
        ),
    ):
        action = add_command(actions, name, run, about, f"  razorlite config {name} CONFIG")
        action.add_argument("config", metavar="CONFIG", help=CONFIG)
        add_set(action)
        if name == "show":
            about = "also what blocks leave out; modules of your own are not imported for it"
            action.add_argument("--defaults", action="store_true", help=about)
        if name == "check":
            about = "import custom_imports and dotted types, which runs their code"
            action.add_argument("--allow-imports", action="store_true", help=about)
            add_json(action, "print one JSON object: remarks; faults are errors")
    add_convert_config(actions)
    about = "list what `type` may name, or one type's arguments, defaults and meaning"
    types = add_command(actions, "types", run_config_types, about, "  razorlite config types FPN")
    types.add_argument("name", metavar="NAME", nargs="?", help="one of the types; all by default")


def _add_config_and_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help=CONFIG)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a .pt file that training wrote")


def _add_work_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work-dir", metavar="D", help="run folder; below work_dirs/ by default")


def _add_resume(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resume", action="store_true", help="go on with an interrupted run in the run folder"
    )


_COMMANDS = (
    _add_train,
    add_lr_find,
    _add_test,
    _add_search,
    _add_prune,
    _add_cost,
    add_predict,
    _add_export,
    add_benchmark,
    add_browse,
    add_analyze,
    add_data,
    add_init,
    _add_demo,
    _add_config,
)
