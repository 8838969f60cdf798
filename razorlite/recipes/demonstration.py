"""The command `demo`: the whole pipeline on drawn shapes, with a table and a report."""

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from razorlite.core.errors import RunFolderError
from razorlite.core.streams import safe_console
from razorlite.cost import Constraint, CostTable, measure_latency
from razorlite.recipes.building import build, load_into
from razorlite.recipes.experiment import read
from razorlite.recipes.measuring import test
from razorlite.recipes.pruning import prune
from razorlite.recipes.searching import search
from razorlite.recipes.training import train
from razorlite.search import Candidates
from razorlite.space import Subnet
from razorlite.visual import print_table, write_report

_NOTES = {
    "largest": "the space's largest subnet: what there is to gain from",
    "random": "a random subnet within the same budget: what searching has to beat",
    "searched": "the search's choice, retrained like the two above",
    "distilled": "the same subnet, trained on with the largest subnet as its teacher",
    "pruned": "the distilled subnet after removing its least important channels, fine-tuned",
}


@dataclass(frozen=True)
class Contestant:
    """A trained model of the demo.

    Attributes:
        name: row of the table.
        config: its configuration.
        subnet: its subnet file.
        checkpoint: its weights.
    """

    name: str
    config: str
    subnet: Path
    checkpoint: Path


def demo(work_dir: str | Path | None = None) -> list[dict[str, Any]]:
    """Pretrain a supernet on drawn shapes, search it, retrain, distil and prune; compare.

    Needs neither data nor a GPU. The run folder gets a folder for each step, report.html and
    report.json.

    Args:
        work_dir: run folder; work_dirs/demo, or the next free number after it, by default.

    Returns:
        A row for each model: name, macs, params, latency_ms, AP, AP50.

    Raises:
        RunFolderError: the run folder holds something already.
    """
    start = time.perf_counter()
    folder = _folder(work_dir)
    say = safe_console().rule
    say("1/5  supernet: one random path a step")
    train("demo/supernet", folder / "supernet")
    weights = folder / "supernet" / "checkpoints" / "last.pt"
    say("2/5  search: the best path within the budget")
    search("demo/supernet", weights, folder / "search")
    _controls(folder)
    say("3/5  retraining: largest, random and searched subnet")
    contestants = [_retrained(name, folder, weights) for name in ("largest", "random", "searched")]
    say("4/5  distillation: the searched subnet learns from the largest")
    contestants.append(_distilled(folder, student=contestants[2], teacher=contestants[0]))
    say("5/5  pruning: fewer channels, then fine-tuning")
    contestants.append(_pruned(folder, contestants[-1]))
    rows = _measure(contestants)
    print_table(rows, title="On 200 test images that nothing was trained or chosen on")
    report = _report(folder, rows, time.perf_counter() - start)
    safe_console().print(f"report: {report}", soft_wrap=True)
    return rows


def _folder(work_dir: str | Path | None) -> Path:
    if work_dir is not None:
        folder = Path(work_dir)
        if folder.is_dir() and any(folder.iterdir()):
            raise RunFolderError(f"{folder} is not empty; choose another folder by --work-dir")
        return folder
    base = Path("work_dirs")
    names = ["demo", *(f"demo_{number}" for number in range(2, 1000))]
    return next(base / name for name in names if not (base / name).exists())


def _controls(folder: Path) -> None:
    """Write the subnet files of the three that are retrained."""
    _, experiment = read("demo/supernet")
    built = build(experiment)
    assert built.space is not None
    assert experiment.search is not None
    table = CostTable.build(built.space, experiment.shape)
    constraint = Constraint.parse(experiment.search.constraints, table)
    candidates = Candidates(space=built.space, table=table, constraint=constraint, seed=1)
    Subnet.load(folder / "search" / "subnet.yaml").save(folder / "searched.yaml")
    table.largest().save(folder / "largest.yaml")
    built.space.decode(candidates.random(1)[0]).save(folder / "random.yaml")


def _retrained(name: str, folder: Path, weights: Path) -> Contestant:
    subnet = folder / f"{name}.yaml"
    train("demo/subnet", folder / name, {"subnet": str(subnet), "load_from": str(weights)})
    return Contestant(name, "demo/subnet", subnet, folder / name / "checkpoints" / "last.pt")


def _distilled(folder: Path, *, student: Contestant, teacher: Contestant) -> Contestant:
    overrides = {
        "subnet": str(student.subnet),
        "load_from": str(student.checkpoint),
        "distiller.teacher.checkpoint": str(teacher.checkpoint),
        "distiller.teacher.subnet": str(teacher.subnet),
    }
    train("demo/distill", folder / "distilled", overrides)
    checkpoint = folder / "distilled" / "checkpoints" / "last.pt"
    return Contestant("distilled", "demo/subnet", student.subnet, checkpoint)


def _pruned(folder: Path, before: Contestant) -> Contestant:
    where = folder / "pruned"
    prune("demo/prune", before.checkpoint, where, {"subnet": str(before.subnet)})
    subnet, checkpoint = where / "subnet.yaml", where / "checkpoints" / "last.pt"
    return Contestant("pruned", "demo/prune", subnet, checkpoint)


def _measure(contestants: Sequence[Contestant]) -> list[dict[str, Any]]:
    models, shape = {}, (0, 0)
    for one in contestants:
        _, experiment = read(one.config)
        shape = experiment.shape
        built = build(experiment, one.subnet)
        load_into(built, one.checkpoint)
        models[one.name] = built.model
    latency = measure_latency(models, shape, rounds=50)
    rows = []
    for one in contestants:
        figures = test(one.config, one.checkpoint, one.subnet, as_json=True)
        shown = {key: figures[key] for key in ("macs", "params", "AP", "AP50")}
        median = latency[one.name].median
        rows.append({"name": one.name, "note": _NOTES[one.name], **shown, "latency_ms": median})
    return rows


def _report(folder: Path, rows: Sequence[dict[str, Any]], seconds: float) -> Path:
    steps = ("supernet", *_NOTES)
    names = {"searched": "searched", **{step: step for step in steps}}
    figures = [
        ("How the search went", folder / "search" / "pictures" / "search.png"),
        ("Accuracy against MACs", folder / "search" / "pictures" / "pareto.png"),
        ("Channels that pruning kept", folder / "pruned" / "pictures" / "channels.png"),
        ("What the pruned model finds", folder / "pruned" / "pictures" / "detections.png"),
        *(
            (f"Training: {names[step]}", folder / step / "pictures" / "training.png")
            for step in steps
        ),
    ]
    return write_report(
        folder / "report.html",
        title="razorlite demo: from a supernet to a small detector",
        summary="One supernet was trained on drawn shapes. Its best subnet within 80 to 88 % of "
        "the largest one's MACs was searched, retrained, distilled and pruned.",
        rows=rows,
        figures=figures,
        notes=[
            "AP and AP50 are COCO's, on 200 images that nothing was trained or chosen on. Single "
            "runs of this length differ by about 0.02 AP.",
            "Latency is the median of 50 rounds with batch 1; the models took turns.",
        ],
        facts={
            "duration": f"{seconds:.0f} s",
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
            "versions": f"torch {torch.__version__}, numpy {np.__version__}",
        },
    )
