"""The training loop: steps, lines, evaluations and checkpoints."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from razorlite.core.distributed import all_reduce_max, broadcast_object, is_main
from razorlite.core.errors import DataError, TrainingError
from razorlite.engine import state
from razorlite.engine.config import TrainConfig
from razorlite.engine.ema import Ema
from razorlite.engine.exchange import broadcast_tensors
from razorlite.engine.hooks import Hook
from razorlite.engine.interrupt import Interrupted, StopSignals
from razorlite.engine.metrics_log import MetricsLog, Window, memory_mb
from razorlite.engine.optim import build_optimizer, parameters_of_step
from razorlite.engine.progress import ProgressDisplay
from razorlite.engine.schedules import Constant
from razorlite.engine.steps import Step, StepFunction, as_step
from razorlite.engine.tensorboard import TensorBoard
from razorlite.engine.untouched import untouched
from razorlite.engine.update import Update

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
        step_number: optimiser steps done.
        total_steps: of the whole run.
        batches: in an epoch of this process.
        seconds: training time so far, over all sittings; without evaluation.
        first_step, first_seconds: both at the start of this sitting.
        lr: learning rate of the last step, of the first parameter group.
        best: score of best.pt.
        metrics: of the last evaluation.
        settled: whether the last step's line, evaluation and checkpoint are done.

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
        self.model, self.step, self.loader, self.config = model, as_step(step), loader, config
        self.folder, self.resume_hint, self.meta = Path(folder), resume_hint, dict(meta or {})
        self.batches = _count(loader)
        self.total_steps = config.total_steps(self.batches)
        self.max_seconds = config.max_seconds
        self.step_number = self.first_step = 0
        self.seconds = self.first_seconds = self.lr = 0.0
        self.best: float | None = None
        self.metrics: dict[str, float] = {}
        self.settled, self.window, self._evaluate = True, Window(), evaluate
        self.schedule = config.schedule() if config.schedule else Constant()
        self.ema = Ema(model=model, config=config.ema) if config.ema else None
        self._extra = parameters_of_step(self.step)
        self.update = _update(model, config, self._extra, self.ema)
        self.device = self.update.device
        self.hooks = [*_own_hooks(self.folder, config), *hooks]

    def run(self, *, resume: bool = False) -> dict[str, float]:
        """Train to the end and return the last evaluation's metrics.

        Args:
            resume: go on from checkpoints/last.pt; without one, start.

        Raises:
            CheckpointError: last.pt cannot be gone on from.
            TrainingError: a loss is not finite.
            Interrupted: SIGINT or SIGTERM; the state is saved.
            RunFolderError: the run folder cannot be written.
        """
        if broadcast_object(resume and self.last.exists()):
            state.restore(self, self.last)
        else:
            self._begin()
        self.first_step, self.first_seconds = self.step_number, self.seconds
        self._announce()
        with StopSignals() as signals:
            try:
                self._call("start")
                self._loop(signals)
            finally:
                self._call("end")
                if hasattr(self.loader, "close"):
                    self.loader.close()
        return self.metrics

    def averaged(self) -> AbstractContextManager[Any]:
        """Return a context in which the model has its averaged weights, where there are any."""
        return self.ema.swapped() if self.ema else nullcontext()

    def _announce(self) -> None:
        if is_main():
            _log.info("%s", self.config.plan(self.batches))

    def _begin(self) -> None:
        """Start all ranks from rank 0's weights."""
        averages = self.ema.tensors() if self.ema else []
        own = [*self.model.parameters(), *self.model.buffers(), *self._extra.values()]
        broadcast_tensors([*own, *averages])

    def _loop(self, signals: StopSignals) -> None:
        batches = self._batches()
        self.model.train()
        if not self.settled:
            self._settle()
        while not self._finished():
            stop = self._one_step(batches, signals)
            if stop and not self._finished():
                self._stop()
            self._settle()

    def _batches(self) -> Iterator[Any]:
        """Yield batches from where the run stands, epoch after epoch."""
        epoch, index = divmod(self.step_number * self.config.accumulate, self.batches)
        while True:
            self.loader.set_position(epoch, index)
            yield from self.loader
            epoch, index = epoch + 1, 0

    def _finished(self) -> bool:
        late = self.max_seconds is not None and self.seconds >= self.max_seconds
        return self.step_number >= self.total_steps or late

    def _one_step(self, batches: Iterator[Any], signals: StopSignals) -> bool:
        """Move the weights once; return whether any process was asked to stop."""
        start = time.perf_counter()
        self._call("before_step")
        self._set_learning_rate()
        self.step.begin(self.step_number)
        accumulate = self.config.accumulate
        metrics, images = self.update.gradients(self.step, self.model, batches, accumulate)
        finite, stop = self.update.prepare(metrics, bool(signals.received))
        if not finite:
            raise TrainingError(state.not_finite(self, metrics))
        norms = self.update.apply()
        self.step_number += 1
        self._count({**metrics, **norms}, images, time.perf_counter() - start)
        self._call("after_step", metrics)
        return stop

    def _set_learning_rate(self) -> None:
        position = float(self.step_number)
        if self.max_seconds is not None:
            position = max(position, self.seconds / self.max_seconds * self.total_steps)
        epoch_steps = self.batches / self.config.accumulate
        factor = self.schedule.factor(int(position), self.total_steps, epoch_steps)
        for group in self.update.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self.lr = self.update.optimizer.param_groups[0]["lr"]

    def _count(self, metrics: Mapping[str, Any], images: int, seconds: float) -> None:
        """Add a step to the sums; where time counts, by the slowest process's clock."""
        if self.max_seconds is not None:
            clock = torch.tensor(seconds, dtype=torch.float64, device=self.device)
            seconds = float(all_reduce_max(clock))
        self.seconds += seconds
        self.window.add(metrics, images, seconds)

    def _settle(self) -> None:
        """Log, evaluate and save where it is time after a step.

        It is saved before evaluating too, so that an evaluation that fails loses no step.
        """
        ended = self._finished()
        now = self.step_number, self.batches
        evaluates = self._evaluate and (ended or self.config.evaluates_after(*now))
        saves = ended or self.config.saves_after(*now)
        if evaluates:
            self._save_unsettled()
        elif saves:
            state.join(self)
        if ended or self.step_number % self.config.log_every == 0:
            self._log()
        if evaluates:
            self._run_evaluation()
        self.settled = True
        if evaluates or saves:
            self._save(copy=saves)

    def _log(self) -> None:
        line = {
            **self._position("train"),
            **self.window.means(),
            "lr": self.lr,
            "images_per_second": self.window.images_per_second(),
            "seconds": self.seconds,
            "memory_mb": memory_mb(self.device),
        }
        self.window.clear()
        self._call("line", line)

    def _position(self, kind: str) -> dict[str, Any]:
        epoch = self.config.epochs(self.step_number, self.batches)
        return {"kind": kind, "step": self.step_number, "epoch": epoch}

    def _run_evaluation(self) -> None:
        """Evaluate, on averaged weights where there are any, and keep the best."""
        assert self._evaluate is not None
        start = time.perf_counter()
        with self.averaged(), untouched(self.model):
            metrics = self._evaluate(self.model)
        self.metrics = {name: float(value) for name, value in metrics.items()}
        seconds = time.perf_counter() - start
        self._call("line", {**self._position("eval"), **self.metrics, "eval_seconds": seconds})
        score = self._score()
        if math.isfinite(score) and (self.best is None or score > self.best):
            self.best = score
            state.save_best(self)

    def _score(self) -> float:
        name = self.config.best_metric or next(iter(self.metrics), "")
        if name not in self.metrics:
            names = ", ".join(self.metrics) or "none"
            raise TrainingError(
                f"train.best_metric: {name!r} is not among the metrics ({names}); name one of them"
            )
        return self.metrics[name]

    def _stop(self) -> NoReturn:
        """Save at once; what is due after the step is done by the resumed run."""
        self._save_unsettled()
        raise Interrupted(
            f"stopped after step {self.step_number} of {self.total_steps}, saved in {self.last}; "
            f"to go on, {self.resume_hint}"
        )

    def _save_unsettled(self) -> None:
        """Save a state from which a resumed run does what is due after the last step."""
        self.settled = False
        self._save(copy=False)

    def _save(self, *, copy: bool) -> None:
        state.save(self, copy=copy)
        self._call("saved", str(self.last))

    @property
    def last(self) -> Path:
        """The checkpoint that the run goes on from."""
        return self.folder / "checkpoints" / "last.pt"

    def _call(self, event: str, *arguments: Any) -> None:
        for hook in self.hooks:
            getattr(hook, event)(self, *arguments)


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


def _update(
    model: nn.Module, config: TrainConfig, extra: Mapping[str, nn.Parameter], ema: Ema | None
) -> Update:
    options = config.param_options
    return Update(
        optimizer=build_optimizer(config.optimizer, model, options=options, extra=extra),
        compute=config.compute(next(model.parameters()).device),
        clip_grad_norm=config.clip_grad_norm,
        ema=ema,
    )


def _own_hooks(folder: Path, config: TrainConfig) -> list[Hook]:
    hooks: list[Hook] = [MetricsLog(folder / "metrics.jsonl"), ProgressDisplay()]
    if config.tensorboard:
        hooks.append(TensorBoard(folder / "tensorboard"))
    return hooks
