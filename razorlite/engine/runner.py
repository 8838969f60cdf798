"""The training loop: steps, lines, evaluations and checkpoints, and going on from one exactly."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from razorlite.core.distributed import gather_objects, rank, world_size
from razorlite.core.errors import CheckpointError, TrainingError
from razorlite.engine.checkpoint_io import keep_copy, read_training_checkpoint, save_checkpoint
from razorlite.engine.config import TrainConfig
from razorlite.engine.ema import Ema
from razorlite.engine.exchange import average_tensors, broadcast_tensors
from razorlite.engine.hooks import Hook
from razorlite.engine.interrupt import Interrupted, StopSignals
from razorlite.engine.metrics_log import MetricsLog, Window, memory_mb
from razorlite.engine.optim import build_optimizer, load_optimizer, parameters_of_step
from razorlite.engine.progress import ProgressDisplay
from razorlite.engine.random_state import kept_random_state, random_state, set_random_state
from razorlite.engine.run_folder import on_main
from razorlite.engine.schedules import Constant
from razorlite.engine.steps import Step
from razorlite.engine.tensorboard import TensorBoard
from razorlite.engine.update import Update

Evaluate = Callable[[nn.Module], Mapping[str, float]]


class Runner:
    """Trains a module by a step over a loader, and keeps the run folder.

    The same state and batches give the same weights, whether a run is interrupted or not. Several
    processes (torchrun) average their gradients; the model is not wrapped.

    Args:
        model: what is trained, on its device.
        step: batch to gradients and figures.
        loader: yields batches with a length; has `set_position(epoch, batch_index)` and `__len__`.
        config: how long and how.
        folder: run folder; gets metrics.jsonl and checkpoints/.
        evaluate: model to figures.
        hooks: what else happens; after the run's own.
        resume_hint: how a user goes on with an interrupted run.
        meta: plain values kept in checkpoints.

    Attributes:
        step_number: optimiser steps done.
        total_steps: of the whole run.
        seconds: training time so far, over all sittings.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        step: Step,
        loader: Any,
        config: TrainConfig,
        folder: str | Path,
        evaluate: Evaluate | None = None,
        hooks: Sequence[Hook] = (),
        resume_hint: str = "run the same command again with --resume",
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.step, self.loader, self.config = model, step, loader, config
        self.folder, self.resume_hint, self.meta = Path(folder), resume_hint, dict(meta or {})
        self.device = next(model.parameters()).device
        self.epoch_steps = max(1, len(loader) // config.accumulate)
        self.total_steps = config.total_steps(self.epoch_steps)
        self.max_seconds = config.max_seconds
        self.step_number = self.first_step = 0
        self.seconds = self.first_seconds = 0.0
        self.best: float | None = None
        self._evaluate, self._window = evaluate, Window()
        self._extra = parameters_of_step(step)
        optimizer = build_optimizer(
            config.optimizer, model, options=config.param_options, extra=self._extra
        )
        self.schedule = config.schedule() if config.schedule else Constant()
        self.ema = Ema(model=model, config=config.ema) if config.ema else None
        self.update = Update(
            optimizer=optimizer,
            device=self.device,
            amp=config.amp,
            clip_grad_norm=config.clip_grad_norm,
            ema=self.ema,
        )
        own: list[Hook] = [MetricsLog(self.folder / "metrics.jsonl"), ProgressDisplay()]
        if config.tensorboard:
            own.append(TensorBoard(self.folder / "tensorboard"))
        self.hooks = [*own, *hooks]

    def run(self, *, resume: bool = False) -> dict[str, float]:
        """Train to the end and return the last evaluation's figures.

        Args:
            resume: go on from checkpoints/last.pt; without one, start.

        Raises:
            CheckpointError: last.pt cannot be gone on from.
            TrainingError: a loss is not finite.
            Interrupted: SIGINT or SIGTERM; the state is saved.
            RunFolderError: the run folder cannot be written.
        """
        figures = self._restore() if resume and self._last.exists() else self._begin()
        self.first_step, self.first_seconds = self.step_number, self.seconds
        with StopSignals() as signals:
            try:
                self._call("start")
                batches = self._batches()
                while not self._finished():
                    self._one_step(batches, signals)
                    figures = self._after_step() or figures
            finally:
                self._call("end")
                if hasattr(self.loader, "close"):
                    self.loader.close()
        return figures

    @property
    def _last(self) -> Path:
        return self.folder / "checkpoints" / "last.pt"

    def _finished(self) -> bool:
        late = self.max_seconds is not None and self.seconds >= self.max_seconds
        return self.step_number >= self.total_steps or late

    def _one_step(self, batches: Iterator[Any], signals: StopSignals) -> None:
        start = time.perf_counter()
        self._call("before_step")
        self._set_learning_rate()
        self.model.train()
        if hasattr(self.step, "begin"):
            self.step.begin(self.step_number)
        self.update.begin(self.config.accumulate)
        sums: dict[str, float] = {}
        images = 0
        for _ in range(self.config.accumulate):
            batch = next(batches)
            images += len(batch)
            with self.update.autocast():
                figures = self.step(self.model, batch, self.update.backward)
            for name, value in figures.items():
                sums[name] = sums.get(name, 0.0) + value / self.config.accumulate
        finite, stop = self.update.prepare(sums, bool(signals.received))
        if not finite:
            raise TrainingError(self._not_finite(sums))
        norms = self.update.apply()
        self.step_number += 1
        spent = time.perf_counter() - start
        self.seconds += spent
        self._window.add({**sums, **norms}, images, spent)
        self._call("after_step", sums)
        if stop and not self._finished():
            self._save()
            raise Interrupted(
                f"stopped after step {self.step_number} of {self.total_steps}, saved in "
                f"{self._last}; to go on, {self.resume_hint}"
            )

    def _after_step(self) -> dict[str, float] | None:
        """Log, evaluate and save where it is time."""
        ended = self._finished()
        if ended or self.step_number % self.config.log_every == 0:
            self._log()
        every = self.config.every(self.config.eval_every, self.epoch_steps)
        figures = None
        if self._evaluate is not None and (ended or self._is_time(every)):
            figures = self._judge(self._evaluate)
        saves = self.config.every(self.config.save_every, self.epoch_steps) or every
        if ended or self._is_time(saves or self.epoch_steps):
            self._save()
        return figures

    def _is_time(self, every: int | None) -> bool:
        return every is not None and self.step_number % every == 0

    def _log(self) -> None:
        line = {
            **self._place("train"),
            **self._window.means(),
            "lr": self.update.optimizer.param_groups[0]["lr"],
            "images_per_second": self._window.images_per_second(),
            "seconds": self.seconds,
            "memory_mb": memory_mb(self.device),
        }
        self._window.clear()
        self._call("line", line)

    def _judge(self, evaluate: Evaluate) -> dict[str, float]:
        """Evaluate, on averaged weights where there are any, and keep the best."""
        start = time.perf_counter()
        average_tensors(b for b in self._buffers() if b.is_floating_point())
        with self._averaged(), kept_random_state():
            figures = dict(evaluate(self.model))
        seconds = time.perf_counter() - start
        self._call("line", {**self._place("eval"), **figures, "eval_seconds": seconds})
        score = figures[self._metric(figures)]
        if math.isfinite(score) and (self.best is None or score > self.best):
            self.best = score
            with self._averaged():
                content = {"model": self.model.state_dict(), "meta": {**self.meta, **figures}}
                path = self._last.with_name("best.pt")
                on_main(lambda: save_checkpoint(path, content))
        return figures

    def _metric(self, figures: Mapping[str, float]) -> str:
        name = self.config.best_metric or next(iter(figures))
        if name not in figures:
            raise TrainingError(
                f"train.best_metric {name!r} is not among the figures {', '.join(figures)}"
            )
        return name

    def _save(self) -> None:
        average_tensors(b for b in self._buffers() if b.is_floating_point())
        states = gather_objects(random_state())
        with self._averaged():
            content: dict[str, Any] = {
                "model": self.model.state_dict(),
                "optimizer": self.update.optimizer.state_dict(),
                "update": self.update.state_dict(),
                "ema": self.ema.state_dict() if self.ema else None,
                "step": self.step.state_dict() if hasattr(self.step, "state_dict") else None,
                "progress": self._progress(),
                "rng": states,
                "meta": self.meta,
            }
            on_main(lambda: self._write(content))
        self._call("saved", str(self._last))

    def _write(self, content: Mapping[str, Any]) -> None:
        save_checkpoint(self._last, content)
        if self.config.keep:
            copy = self._last.with_name(f"step_{self.step_number:08d}.pt")
            keep_copy(self._last, copy, pattern="step_*.pt", keep=self.config.keep)

    def _progress(self) -> dict[str, Any]:
        return {
            "step": self.step_number,
            "total": self.total_steps,
            "seconds": self.seconds,
            "best": self.best,
            "window": self._window.state_dict(),
            "batches_per_epoch": len(self.loader),
        }

    def _begin(self) -> dict[str, float]:
        broadcast_tensors([*self.model.parameters(), *self._buffers(), *self._extra.values()])
        return {}

    def _restore(self) -> dict[str, float]:
        """Take up the state of last.pt.

        Raises:
            CheckpointError: it is of another model, data set or number of processes.
        """
        content = read_training_checkpoint(self._last)
        self._check(content)
        # Where weights are averaged, "model" holds the average and "ema" what is trained.
        average = content["ema"]
        try:
            self.model.load_state_dict(content["model"])
            if self.ema is not None and average is not None:
                with self.ema.swapped():
                    self.model.load_state_dict(content["model"])
                self.model.load_state_dict(average["average"], strict=False)
                self.ema.updates = average["updates"]
        except RuntimeError as error:
            raise CheckpointError(
                f"{self._last} is of another model; resume with the configuration it was trained "
                f"with ({' '.join(str(error).split())[:200]})"
            ) from error
        load_optimizer(self.update.optimizer, content["optimizer"])
        self.update.load_state_dict(content["update"])
        if content["step"] is not None and hasattr(self.step, "load_state_dict"):
            self.step.load_state_dict(content["step"])
        progress = content["progress"]
        self.step_number, self.seconds = progress["step"], progress["seconds"]
        self.best = progress["best"]
        self._window.load_state_dict(progress["window"])
        set_random_state(content["rng"][rank()])
        return {}

    def _check(self, content: Mapping[str, Any]) -> None:
        if (self.ema is None) != (content["ema"] is None):
            raise CheckpointError(f"{self._last} was trained {_with('ema', content['ema'])}")
        if len(content["rng"]) != world_size():
            raise CheckpointError(
                f"{self._last} was trained by {len(content['rng'])} processes, now there are "
                f"{world_size()}; start as many"
            )
        if content["progress"]["batches_per_epoch"] != len(self.loader):
            raise CheckpointError(
                f"{self._last} was trained with {content['progress']['batches_per_epoch']} batches "
                f"an epoch, now there are {len(self.loader)}; resume with the same data and batch "
                f"size, or start a new run with load_from"
            )

    def _batches(self) -> Iterator[Any]:
        """Yield batches from where the run stands, epoch after epoch."""
        done = self.step_number * self.config.accumulate
        epoch, index = divmod(done, len(self.loader))
        while True:
            self.loader.set_position(epoch, index)
            yield from self.loader
            epoch, index = epoch + 1, 0

    def _set_learning_rate(self) -> None:
        position = float(self.step_number)
        if self.max_seconds is not None:
            position = max(position, self.seconds / self.max_seconds * self.total_steps)
        factor = self.schedule.factor(int(position), self.total_steps, self.epoch_steps)
        for group in self.update.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def _place(self, kind: str) -> dict[str, Any]:
        return {
            "kind": kind,
            "step": self.step_number,
            "epoch": self.step_number * self.config.accumulate // len(self.loader),
        }

    def _buffers(self) -> list[torch.Tensor]:
        return [*self.model.buffers(), *(self.ema.buffers() if self.ema else ())]

    def _averaged(self) -> AbstractContextManager[Any]:
        return self.ema.swapped() if self.ema else nullcontext()

    def _call(self, event: str, *arguments: Any) -> None:
        for hook in self.hooks:
            getattr(hook, event)(self, *arguments)

    def _not_finite(self, figures: Mapping[str, float]) -> str:
        bad = [name for name, value in figures.items() if not math.isfinite(value)]
        saved = (
            f"the last checkpoint is {self._last}" if self._last.exists() else "nothing saved yet"
        )
        return (
            f"the loss of step {self.step_number + 1} is not finite ({', '.join(bad) or 'total'}); "
            f"{saved}; lower the learning rate, warm up longer or clip gradients "
            f"(train.clip_grad_norm)"
        )


def _with(what: str, there: Any) -> str:
    state = "without" if there is None else "with"
    return f"{state} {what}; resume with the configuration it was trained with"
