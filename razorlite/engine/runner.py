"""The training loop: steps, lines, evaluations and checkpoints."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from razorlite.core.distributed import all_reduce_max, broadcast_object, is_main
from razorlite.core.errors import DataError, TrainingError
from razorlite.engine import saving
from razorlite.engine.config import TrainConfig
from razorlite.engine.ema import Ema
from razorlite.engine.exchange import broadcast_tensors
from razorlite.engine.hooks import Hook
from razorlite.engine.interrupt import Interrupted, StoppedAtEnd, StopSignals
from razorlite.engine.logging_hook import LoggingHook
from razorlite.engine.metrics_log import MetricsLog, memory_mb
from razorlite.engine.optim import parameters_of_step
from razorlite.engine.progress import ProgressDisplay
from razorlite.engine.run_state import RunState
from razorlite.engine.schedules import Constant
from razorlite.engine.steps import Step, StepFunction, as_step
from razorlite.engine.tensorboard import TensorBoard
from razorlite.engine.untouched import untouched
from razorlite.engine.update import build_update

_log = logging.getLogger("razorlite")
Evaluate = Callable[[nn.Module], Mapping[str, float]]


class Runner:
    """Trains a module by a step over a loader, and keeps the run folder.

    The same state and batches give the same weights, whether a run is interrupted or not. Several
    processes (torchrun) average their gradients; the model is not wrapped.

    Args:
        model: what is trained, on its device.
        step: batch to gradients and metrics.
        loader: yields batches with a length; has `set_position(epoch, batch_index)` and `__len__`.
        config: how long and how.
        folder: run folder; gets metrics.jsonl and checkpoints/.
        evaluate: model to metrics.
        hooks: what else happens; after the run's own.
        resume_hint: how a user goes on with an interrupted run.
        meta: plain values kept in checkpoints.

    Attributes:
        state: what the run is and how far it has come; hooks get it.
        hooks: what happens around the steps, in order.

    Raises:
        ConfigError: no parameter can be trained, or an option names none; the step is none.
        DataError: the loader has no batch.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        step: Step | StepFunction,
        loader: Any,
        config: TrainConfig,
        folder: str | Path,
        evaluate: Evaluate | None = None,
        hooks: Sequence[Hook] = (),
        resume_hint: str = "run the same command again with --resume",
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        parts, folder = as_step(step), Path(folder)
        ema = Ema(model=model, config=config.ema) if config.ema else None
        self._extra = parameters_of_step(parts)
        batches = _count(loader)
        self.state = RunState(
            model=model,
            step=parts,
            loader=loader,
            config=config,
            folder=folder,
            update=build_update(model, config, parts, ema),
            ema=ema,
            meta=dict(meta or {}),
            batches=batches,
            total_steps=config.total_steps(batches),
            max_seconds=config.max_seconds,
        )
        self._evaluate, self.resume_hint = evaluate, resume_hint
        self.schedule = config.schedule() if config.schedule else Constant()
        self.hooks = [*_own_hooks(folder, config), *hooks]

    def run(self, *, resume: bool = False) -> dict[str, float]:
        """Train to the end and return the last evaluation's metrics.

        Args:
            resume: go on from checkpoints/last.pt; without one, start.

        Raises:
            CheckpointError: last.pt cannot be gone on from.
            TrainingError: a loss is not finite.
            Interrupted: SIGINT or SIGTERM; the state is saved.
            StoppedAtEnd: likewise, after the last step: the run is complete.
            RunFolderError: the run folder cannot be written.
        """
        run = self.state
        if broadcast_object(resume and run.last.exists()):
            saving.restore(run, run.last)
        else:
            self._begin()
        run.first_step, run.first_seconds = run.step_number, run.seconds
        self._announce()
        with StopSignals() as signals:
            try:
                self._call("start")
                self._loop(signals)
            finally:
                self._call("end")
                if hasattr(run.loader, "close"):
                    run.loader.close()
        return run.metrics

    def _announce(self) -> None:
        if is_main():
            if self.state.step_number:
                _log.info("going on after step %d", self.state.step_number)
            evaluates = self._evaluate is not None
            _log.info("%s", self.state.config.plan(self.state.batches, evaluates=evaluates))

    def _begin(self) -> None:
        """Start all ranks from rank 0's weights."""
        run = self.state
        averages = run.ema.tensors() if run.ema else []
        own = [*run.model.parameters(), *run.model.buffers(), *self._extra.values()]
        broadcast_tensors([*own, *averages])

    def _loop(self, signals: StopSignals) -> None:
        run = self.state
        batches = self._batches()
        run.model.train()
        if not run.settled:
            self._settle()
        while not run.is_finished():
            stop = self._one_step(batches, signals)
            if stop and not run.is_finished():
                self._stop()
            self._settle()
        self._finish(signals)

    def _batches(self) -> Iterator[Any]:
        """Yield batches from where the run stands, epoch after epoch."""
        run = self.state
        epoch, index = divmod(run.step_number * run.config.accumulate, run.batches)
        while True:
            run.loader.set_position(epoch, index)
            yield from run.loader
            epoch, index = epoch + 1, 0

    def _one_step(self, batches: Iterator[Any], signals: StopSignals) -> bool:
        """Move the weights once; return whether any process was asked to stop."""
        run = self.state
        start = time.perf_counter()
        self._call("before_step")
        self._set_learning_rate()
        run.step.begin(run.step_number)
        accumulate = run.config.accumulate
        metrics, images = run.update.gradients(run.step, run.model, batches, accumulate)
        finite, stop = run.update.prepare(metrics, bool(signals.received))
        if not finite:
            raise TrainingError(saving.not_finite(run, metrics))
        norms = run.update.apply()
        run.step_number += 1
        self._count({**metrics, **norms}, images, time.perf_counter() - start)
        self._call("after_step", metrics)
        return stop

    def _set_learning_rate(self) -> None:
        run = self.state
        position = float(run.step_number)
        if run.max_seconds is not None:
            position = max(position, run.seconds / run.max_seconds * run.total_steps)
        epoch_steps = run.batches / run.config.accumulate
        factor = self.schedule.factor(int(position), run.total_steps, epoch_steps)
        for group in run.update.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        run.lr = run.update.optimizer.param_groups[0]["lr"]

    def _count(self, metrics: Mapping[str, Any], images: int, seconds: float) -> None:
        """Add a step to the sums; where time counts, by the slowest process's clock."""
        run = self.state
        if run.max_seconds is not None:
            clock = torch.tensor(seconds, dtype=torch.float64, device=run.device)
            seconds = float(all_reduce_max(clock))
        run.seconds += seconds
        run.window.add(metrics, images, seconds)

    def _settle(self) -> None:
        """Log, evaluate and save where it is time after a step.

        It is saved before evaluating too, so that an evaluation that fails loses no step.
        """
        run = self.state
        ended = run.is_finished()
        now = run.step_number, run.batches
        evaluates = self._evaluate and (ended or run.config.evaluates_after(*now))
        saves = ended or run.config.saves_after(*now)
        if evaluates:
            self._save_unsettled()
        elif saves:
            saving.join(run)
        if ended or run.step_number % run.config.log_every == 0:
            self._log()
        if evaluates:
            self._run_evaluation()
        run.settled = True
        if evaluates or saves:
            self._save(copy=saves)

    def _log(self) -> None:
        run = self.state
        line = {
            **self._position("train"),
            **run.window.means(),
            "lr": run.lr,
            "images_per_second": run.window.images_per_second(),
            "seconds": run.seconds,
            "memory_mb": memory_mb(run.device),
        }
        run.window.clear()
        self._call("line", line)

    def _position(self, kind: str) -> dict[str, Any]:
        run = self.state
        epoch = run.config.epochs(run.step_number, run.batches)
        return {"kind": kind, "step": run.step_number, "epoch": epoch}

    def _run_evaluation(self) -> None:
        """Evaluate, on averaged weights where there are any, and keep the best."""
        run = self.state
        assert self._evaluate is not None
        start = time.perf_counter()
        with run.averaged(), untouched(run.model):
            metrics = self._evaluate(run.model)
        run.metrics = {name: float(value) for name, value in metrics.items()}
        seconds = time.perf_counter() - start
        run.evaluations, run.evaluation_seconds = (
            run.evaluations + 1,
            run.evaluation_seconds + seconds,
        )
        self._call("line", {**self._position("eval"), **run.metrics, "eval_seconds": seconds})
        score = self._score()
        run.stale += 1
        if math.isfinite(score) and (run.best is None or score > run.best):
            run.best, run.stale = score, 0
            saving.save_best(run)
        if run.stale == run.config.patience and is_main():
            _log.info("stopping after step %d: %s", run.step_number, _stale(run.stale, run.best))

    def _score(self) -> float:
        run = self.state
        name = run.best_metric
        if name not in run.metrics:
            names = ", ".join(run.metrics) or "none"
            raise TrainingError(
                f"train.best_metric: {name!r} is not among the metrics ({names}); name one of them"
            )
        return run.metrics[name]

    def _stop(self) -> NoReturn:
        """Save at once; what is due after the step is done by the resumed run."""
        run = self.state
        self._save_unsettled()
        raise Interrupted(
            f"stopped after step {run.step_number} of {run.total_steps}, saved in {run.last}; "
            f"to go on, {self.resume_hint}"
        )

    def _finish(self, signals: StopSignals) -> None:
        """Hand a request to stop that came after the last step on to callers with more to do."""
        run = self.state
        asked = torch.tensor(float(bool(signals.received)), device=run.device)
        if all_reduce_max(asked):
            raise StoppedAtEnd(
                f"asked to stop, and step {run.step_number} was the last; to go on with what comes "
                f"after the training, {self.resume_hint}",
                run.metrics,
            )

    def _save_unsettled(self) -> None:
        """Save a state from which a resumed run does what is due after the last step."""
        self.state.settled = False
        self._save(copy=False)

    def _save(self, *, copy: bool) -> None:
        saving.save(self.state, copy=copy)
        self._call("saved", str(self.state.last))

    def _call(self, event: str, *arguments: Any) -> None:
        for hook in self.hooks:
            getattr(hook, event)(self.state, *arguments)


def _stale(evaluations: int, best: float | None) -> str:
    return f"{evaluations} evaluations in a row have not been better than {best}"


def _count(loader: Any) -> int:
    """Return the batches of an epoch.

    Raises:
        DataError: there are none.
    """
    if len(loader) == 0:
        raise DataError(
            "the training images make no batch; add images or lower data.train.batch_size"
        )
    return len(loader)


def _own_hooks(folder: Path, config: TrainConfig) -> list[Hook]:
    hooks: list[Hook] = [MetricsLog(folder / "metrics.jsonl"), ProgressDisplay()]
    loggers = [*([TensorBoard()] if config.tensorboard else []), *config.loggers]
    return [*hooks, *map(LoggingHook, loggers)]
