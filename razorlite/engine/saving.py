"""What a run keeps: all of its state in last.pt and back, and the best weights in best.pt."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from razorlite.core.distributed import gather_objects, is_main
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
from razorlite.engine.run_state import RunState
from razorlite.engine.state_form import check_form, explained
from razorlite.engine.steps import Metrics

_ADVICE = "resume with the configuration it was trained with"
_log = logging.getLogger("razorlite")


def join(run: RunState) -> None:
    """Give all ranks the same statistics; comes before evaluating and saving.

    Raises:
        TrainingError: weights are not finite.
    """
    average_tensors(statistics(run))
    if not is_finite(dict(run.model.named_parameters())):
        raise TrainingError(f"weights are not finite after step {run.step_number}; {_advice(run)}")


def save(run: RunState, *, copy: bool = True) -> None:
    """Write last.pt; all ranks call it.

    Where the last step's line and evaluation are still due (`settled` is off), it holds what they
    start from, and the ranks' statistics are joined only now.

    Args:
        run: whose state it is.
        copy: also write a numbered copy, where some are kept.

    Raises:
        RunFolderError: the folder cannot be written; last.pt is as it was.
        TrainingError: weights are not finite.
    """
    ranks = gather_objects(own_state(run))
    if not run.settled:
        join(run)
    with run.averaged():
        content = collect(run, ranks)
        on_main(lambda: _write(run, content, copy))


def save_best(run: RunState) -> None:
    """Write best.pt: the weights that were evaluated, and their metrics."""
    path = run.last.with_name("best.pt")
    meta = {**run.meta, "step": run.step_number, **run.metrics}
    with run.averaged():
        content = {"model": run.model.state_dict(), "meta": meta}
        on_main(lambda: save_checkpoint(path, content))


def collect(run: RunState, ranks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a run's state, tensors by reference.

    Where weights are averaged it is called with the average swapped in: "model" is then what users
    load, and "ema" holds the weights that are trained.
    """
    return {
        "model": run.model.state_dict(),
        "optimizer": run.update.optimizer.state_dict(),
        "update": run.update.state_dict(),
        "ema": run.ema.state_dict() if run.ema else None,
        "step": run.step.state_dict() or None,
        "progress": _progress(run),
        "rng": [part["rng"] for part in ranks],
        "ranks": [{key: part[key] for key in ("window", "statistics")} for part in ranks],
        "meta": run.meta,
    }


def restore(run: RunState, path: Path) -> None:
    """Take up the state that `collect` returned.

    Raises:
        CheckpointError: the file cannot be read, or is damaged, or of another model, data set or
            number of processes.
    """
    content = read_training_checkpoint(path)
    with explained(path):
        check_form(run, content)
        _check(run, content, path)
        _take(run, content)


def _take(run: RunState, content: Mapping[str, Any]) -> None:
    with run.averaged():
        run.model.load_state_dict(content["model"])
        if run.ema is not None:
            run.ema.load_state_dict(content["ema"])
    load_optimizer(run.update.optimizer, content["optimizer"])
    run.update.load_state_dict(content["update"])
    run.step.load_state_dict(content["step"] or {})
    _take_progress(run, content["progress"])
    take_own_state(run, content["rng"], _ranks(content))


def not_finite(run: RunState, metrics: Metrics) -> str:
    """Return what to tell about a step whose losses are not finite."""
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    what = ", ".join(bad) or "on another process"
    return f"the loss of step {run.step_number + 1} is not finite ({what}); {_advice(run)}"


def _advice(run: RunState) -> str:
    there = run.last.exists()
    saved = f"the last checkpoint is {run.last}" if there else "nothing saved yet"
    return (
        f"{saved}; lower the learning rate, warm up longer or clip gradients (train.clip_grad_norm)"
    )


def _write(run: RunState, content: Mapping[str, Any], copy: bool) -> None:
    save_checkpoint(run.last, content)
    keep = run.config.keep
    if keep and copy:
        named = run.last.with_name(f"step_{run.step_number:08d}.pt")
        keep_copy(run.last, named, pattern="step_*.pt", keep=keep)


def _progress(run: RunState) -> dict[str, Any]:
    return {
        "step": run.step_number,
        "total": run.total_steps,
        "seconds": run.seconds,
        "lr": run.lr,
        "best": run.best,
        "best_metric": run.best_metric,
        "stale": run.stale,
        "figures": run.metrics,
        "settled": run.settled,
        "images_per_batch": images_per_batch(run),
        "batches_per_epoch": run.batches,
        "accumulate": run.config.accumulate,
    }


def _take_progress(run: RunState, progress: Mapping[str, Any]) -> None:
    run.step_number, run.seconds = progress["step"], progress["seconds"]
    run.best, run.metrics = progress["best"], dict(progress["figures"])
    run.lr, run.settled = progress["lr"], progress["settled"]
    run.stale = progress.get("stale", 0)  # early files lack it
    before = progress.get("best_metric", run.best_metric)
    if run.best is not None and before != run.best_metric:
        run.best, run.stale = None, 0
        if is_main():
            _log.warning(
                "best.pt is the best by %s; from here on %s counts, anew", before, run.best_metric
            )


def _ranks(content: Mapping[str, Any]) -> list[Any]:
    """Return what each process has kept; early files have the first one's window alone."""
    if "ranks" in content:
        return list(content["ranks"])
    return [{"window": content["progress"]["window"], "statistics": []} for _ in content["rng"]]


def _check(run: RunState, content: Mapping[str, Any], path: Path) -> None:
    report = compare(run.model, content["model"])
    if not report.complete:
        raise CheckpointError(f"{path} is of another model: {report.summary()}; {_ADVICE}")
    if (run.ema is None) != (content["ema"] is None):
        there = "without" if content["ema"] is None else "with"
        raise CheckpointError(f"{path} was trained {there} ema; {_ADVICE}")
    progress = content["progress"]
    check_processes(run, len(content["rng"]), progress.get("images_per_batch"), path)
    _check_batches(run, progress, path)
    _check_data(run, content["meta"], path)


def _check_batches(run: RunState, progress: Mapping[str, Any], path: Path) -> None:
    """The place in the data is counted in batches: they must be the same ones."""
    here = {"batches_per_epoch": run.batches, "accumulate": run.config.accumulate}
    for name, value in here.items():
        if progress[name] != value:
            raise CheckpointError(
                f"{path} was trained with {progress[name]} {_WORDS[name]}, now there are {value}; "
                f"resume with the same data, batch size and train.accumulate, or start a new run "
                f"with load_from"
            )


def _check_data(run: RunState, before: Mapping[str, Any], path: Path) -> None:
    """Refuse other data than a run began with, as far as both say what it is; early files do not.

    Args:
        run: whose `meta` may hold digests by data set, as "data".
        before: the same of the checkpoint.
        path: the checkpoint.
    """
    digests, now = before.get("data", {}), run.meta.get("data", {})
    changed = [name for name in digests if now.get(name, digests[name]) != digests[name]]
    if changed:
        raise CheckpointError(
            f"{path} was trained with other images or annotations of {' and '.join(changed)}; "
            f"resume with the same ones, or start a new run with load_from"
        )


_WORDS = {"batches_per_epoch": "batches an epoch", "accumulate": "batches a step"}
