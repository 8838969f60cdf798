"""What a run keeps: all of its state in last.pt and back, and the best weights in best.pt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from razorlite.core.distributed import gather_objects
from razorlite.core.errors import CheckpointError, TrainingError
from razorlite.engine.checkpoint import compare, is_finite
from razorlite.engine.checkpoint_io import keep_copy, read_training_checkpoint, save_checkpoint
from razorlite.engine.exchange import average_tensors
from razorlite.engine.optim import load_optimizer
from razorlite.engine.ranks import (
    check_processes,
    images_per_batch,
    own_state,
    statistics,
    take_own_state,
)
from razorlite.engine.run_folder import on_main
from razorlite.engine.state_form import check_form, explained
from razorlite.engine.steps import Metrics

if TYPE_CHECKING:
    from razorlite.engine.runner import Runner

_ADVICE = "resume with the configuration it was trained with"


def join(runner: Runner) -> None:
    """Give all ranks the same statistics; comes before evaluating and saving.

    Raises:
        TrainingError: weights are not finite.
    """
    average_tensors(statistics(runner))
    if not is_finite(dict(runner.model.named_parameters())):
        raise TrainingError(
            f"weights are not finite after step {runner.step_number}; {_advice(runner)}"
        )


def save(runner: Runner, *, copy: bool = True) -> None:
    """Write last.pt; all ranks call it.

    Where the last step's line and evaluation are still due (`settled` is off), it holds what they
    start from, and the ranks' statistics are joined only now.

    Args:
        runner: whose state it is.
        copy: also write a numbered copy, where some are kept.

    Raises:
        RunFolderError: the folder cannot be written; last.pt is as it was.
        TrainingError: weights are not finite.
    """
    ranks = gather_objects(own_state(runner))
    if not runner.settled:
        join(runner)
    with runner.averaged():
        content = collect(runner, ranks)
        on_main(lambda: _write(runner, content, copy))


def save_best(runner: Runner) -> None:
    """Write best.pt: the weights that were evaluated, and their metrics."""
    path = runner.last.with_name("best.pt")
    meta = {**runner.meta, "step": runner.step_number, **runner.metrics}
    with runner.averaged():
        content = {"model": runner.model.state_dict(), "meta": meta}
        on_main(lambda: save_checkpoint(path, content))


def collect(runner: Runner, ranks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a run's state, tensors by reference.

    Where weights are averaged it is called with the average swapped in: "model" is then what users
    load, and "ema" holds the weights that are trained.
    """
    return {
        "model": runner.model.state_dict(),
        "optimizer": runner.update.optimizer.state_dict(),
        "update": runner.update.state_dict(),
        "ema": runner.ema.state_dict() if runner.ema else None,
        "step": runner.step.state_dict() or None,
        "progress": _progress(runner),
        "rng": [part["rng"] for part in ranks],
        "ranks": [{key: part[key] for key in ("window", "statistics")} for part in ranks],
        "meta": runner.meta,
    }


def restore(runner: Runner, path: Path) -> None:
    """Take up the state that `collect` returned.

    Raises:
        CheckpointError: the file cannot be read, or is damaged, or of another model, data set or
            number of processes.
    """
    content = read_training_checkpoint(path)
    with explained(path):
        check_form(runner, content)
        _check(runner, content, path)
        _take(runner, content)


def _take(runner: Runner, content: Mapping[str, Any]) -> None:
    with runner.averaged():
        runner.model.load_state_dict(content["model"])
        if runner.ema is not None:
            runner.ema.load_state_dict(content["ema"])
    load_optimizer(runner.update.optimizer, content["optimizer"])
    runner.update.load_state_dict(content["update"])
    runner.step.load_state_dict(content["step"] or {})
    _take_progress(runner, content["progress"])
    take_own_state(runner, content["rng"], _ranks(content))


def not_finite(runner: Runner, metrics: Metrics) -> str:
    """Return what to tell about a step whose losses are not finite."""
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    what = ", ".join(bad) or "on another process"
    return f"the loss of step {runner.step_number + 1} is not finite ({what}); {_advice(runner)}"


def _advice(runner: Runner) -> str:
    there = runner.last.exists()
    saved = f"the last checkpoint is {runner.last}" if there else "nothing saved yet"
    return (
        f"{saved}; lower the learning rate, warm up longer or clip gradients (train.clip_grad_norm)"
    )


def _write(runner: Runner, content: Mapping[str, Any], copy: bool) -> None:
    save_checkpoint(runner.last, content)
    keep = runner.config.keep
    if keep and copy:
        named = runner.last.with_name(f"step_{runner.step_number:08d}.pt")
        keep_copy(runner.last, named, pattern="step_*.pt", keep=keep)


def _progress(runner: Runner) -> dict[str, Any]:
    return {
        "step": runner.step_number,
        "total": runner.total_steps,
        "seconds": runner.seconds,
        "lr": runner.lr,
        "best": runner.best,
        "figures": runner.metrics,
        "settled": runner.settled,
        "images_per_batch": images_per_batch(runner),
        "batches_per_epoch": runner.batches,
        "accumulate": runner.config.accumulate,
    }


def _take_progress(runner: Runner, progress: Mapping[str, Any]) -> None:
    runner.step_number, runner.seconds = progress["step"], progress["seconds"]
    runner.best, runner.metrics = progress["best"], dict(progress["figures"])
    runner.lr, runner.settled = progress["lr"], progress["settled"]


def _ranks(content: Mapping[str, Any]) -> list[Any]:
    """Return what each process has kept; early files have the first one's window alone."""
    if "ranks" in content:
        return list(content["ranks"])
    return [{"window": content["progress"]["window"], "statistics": []} for _ in content["rng"]]


def _check(runner: Runner, content: Mapping[str, Any], path: Path) -> None:
    report = compare(runner.model, content["model"])
    if not report.complete:
        raise CheckpointError(f"{path} is of another model: {report.summary()}; {_ADVICE}")
    if (runner.ema is None) != (content["ema"] is None):
        there = "without" if content["ema"] is None else "with"
        raise CheckpointError(f"{path} was trained {there} ema; {_ADVICE}")
    progress = content["progress"]
    check_processes(runner, len(content["rng"]), progress.get("images_per_batch"), path)
    _check_batches(runner, progress, path)


def _check_batches(runner: Runner, progress: Mapping[str, Any], path: Path) -> None:
    """The place in the data is counted in batches: they must be the same ones."""
    here = {"batches_per_epoch": runner.batches, "accumulate": runner.config.accumulate}
    for name, value in here.items():
        if progress[name] != value:
            raise CheckpointError(
                f"{path} was trained with {progress[name]} {_WORDS[name]}, now there are {value}; "
                f"resume with the same data, batch size and train.accumulate, or start a new run "
                f"with load_from"
            )


_WORDS = {"batches_per_epoch": "batches an epoch", "accumulate": "batches a step"}
