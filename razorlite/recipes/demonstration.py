"""The command `demo`: the whole pipeline on drawn shapes, with a table and a report."""

import json
import logging
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from razorlite.core.streams import safe_console
from razorlite.cost import Constraint, measure_latency, tabulate
from razorlite.engine.run_folder import claimed
from razorlite.recipes.building import build, load_into
from razorlite.recipes.demo_steps import DemoSteps, demo_folder
from razorlite.recipes.experiment import read
from razorlite.recipes.measuring import test
from razorlite.recipes.pruning import prune
from razorlite.recipes.searching import search
from razorlite.recipes.training import train
from razorlite.search import Candidates
from razorlite.space import Subnet
from razorlite.visual import print_table, write_report

_log = logging.getLogger("razorlite")
_REPORTS = ("report.html", "report.json")
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


def demo(work_dir: str | Path | None = None, resume: bool = False) -> list[dict[str, Any]]:
    """Pretrain a supernet on drawn shapes, search it, retrain, distil and prune; compare.

    Needs neither data nor a GPU. The run folder gets a folder for each step, report.html and
    report.json.

    Args:
        work_dir: run folder; work_dirs/demo, or the next free number after it, by default.
        resume: go on with the demo in the run folder (by default the newest one): finished steps
            are skipped, an interrupted one goes on where it stopped.

    Returns:
        A row for each model: name, macs, params, latency_ms, AP, AP50.

    Raises:
        RunFolderError: the run folder holds something already.
        Interrupted: a signal asked the demo to end; the state is saved.
    """
    folder = demo_folder(work_dir, resume=resume)
    with claimed(folder, "demo", resume=resume):
        if resume and all((folder / name).exists() for name in _REPORTS):
            _log.info("the demo in %s is finished: see %s", folder, folder / "report.html")
            rows: list[dict[str, Any]] = json.loads((folder / "report.json").read_text())["rows"]
            return rows
        return _run(folder, DemoSteps(folder), resume)


def _run(folder: Path, steps: DemoSteps, resume: bool) -> list[dict[str, Any]]:
    say = safe_console().rule
    say("1/5  supernet: one random path a step")
    steps.do("supernet", lambda: train("demo/supernet", folder / "supernet", resume=resume))
    weights = folder / "supernet" / "checkpoints" / "last.pt"
    say("2/5  search: the best path within the budget")
    steps.do("search", lambda: search("demo/supernet", weights, folder / "search", resume=resume))
    steps.do("controls", lambda: _controls(folder))
    say("3/5  retraining: largest, random and searched subnet")
    names = ("largest", "random", "searched")
    contestants = [_retrained(name, folder, weights, steps, resume) for name in names]
    say("4/5  distillation: the searched subnet learns from the largest")
    student, teacher = contestants[2], contestants[0]
    contestants.append(_distilled(folder, student, teacher, steps, resume))
    say("5/5  pruning: fewer channels, then fine-tuning")
    contestants.append(_pruned(folder, contestants[-1], steps, resume))
    rows = _measure(contestants)
    print_table(rows, title="On 200 test images that nothing was trained or chosen on")
    report = _report(folder, rows, steps.seconds)
    safe_console().print(f"report: {report}", soft_wrap=True)
    return rows


def _controls(folder: Path) -> None:
    """Write the subnet files of the three that are retrained."""
    _, experiment = read("demo/supernet")
    built = build(experiment)
    assert built.space is not None
    assert experiment.search is not None
    table = tabulate(built.space, experiment.shape)
    constraint = Constraint.parse(experiment.search.constraints, table)
    candidates = Candidates(space=built.space, table=table, constraint=constraint, seed=1)
    Subnet.load(folder / "search" / "subnet.yaml").save(folder / "searched.yaml")
    table.largest().save(folder / "largest.yaml")
    built.space.decode(candidates.random(1)[0]).save(folder / "random.yaml")


def _retrained(
    name: str, folder: Path, weights: Path, steps: DemoSteps, resume: bool
) -> Contestant:
    subnet = folder / f"{name}.yaml"
    overrides = {"subnet": str(subnet), "load_from": str(weights)}
    steps.do(name, lambda: train("demo/subnet", folder / name, overrides, resume))
    return Contestant(name, "demo/subnet", subnet, folder / name / "checkpoints" / "last.pt")


def _distilled(
    folder: Path, student: Contestant, teacher: Contestant, steps: DemoSteps, resume: bool
) -> Contestant:
    overrides = {
        "subnet": str(student.subnet),
        "load_from": str(student.checkpoint),
        "distiller.teacher.checkpoint": str(teacher.checkpoint),
        "distiller.teacher.subnet": str(teacher.subnet),
    }
    where = folder / "distilled"
    steps.do("distilled", lambda: train("demo/distill", where, overrides, resume))
    return Contestant("distilled", "demo/subnet", student.subnet, where / "checkpoints" / "last.pt")


def _pruned(folder: Path, before: Contestant, steps: DemoSteps, resume: bool) -> Contestant:
    where, overrides = folder / "pruned", {"subnet": str(before.subnet)}
    steps.do("pruned", lambda: prune("demo/prune", before.checkpoint, where, overrides, resume))
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
        metrics = test(one.config, one.checkpoint, one.subnet, as_json=True)
        shown = {key: metrics[key] for key in ("macs", "params", "AP", "AP50")}
        median = latency[one.name].median
        rows.append({"name": one.name, "note": _NOTES[one.name], **shown, "latency_ms": median})
    return rows


def _report(folder: Path, rows: Sequence[dict[str, Any]], seconds: float) -> Path:
    steps = ("supernet", *_NOTES)
    names = {"searched": "searched", **{step: step for step in steps}}
    pictures = [
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
        figures=pictures,
        notes=[
            "AP and AP50 are COCO's, on 200 images that nothing was trained or chosen on. Single "
            "runs of this length differ by about 0.02 AP.",
            "The rows are not trained equally long: the distilled model starts from the searched "
            "one's weights and the pruned from the distilled one's, each for as many steps more. "
            "What they gain is partly the longer training.",
            "Latency is the median of 50 rounds with batch 1; the models took turns.",
        ],
        facts={
            "duration": f"{seconds:.0f} s",
            "machine": f"{platform.machine()}, PyTorch threads: {torch.get_num_threads()}",
            "versions": f"torch {torch.__version__}, numpy {np.__version__}",
        },
    )
