"""The `train` block of a configuration."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from razorlite.core.compute import Amp, Compute, MemoryFormat
from razorlite.core.config import Factory, Partial
from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, Positive, Whole, checked
from razorlite.engine.ema import EmaConfig
from razorlite.engine.loggers import Logger
from razorlite.engine.optim import ParamOptions
from razorlite.engine.schedules import Schedule


@checked
@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long to train, and how.

    Exactly one of `max_epochs` and `max_steps` gives the length; `eval_every` and `save_every`
    count in its unit.

    Attributes:
        optimizer: any of torch.optim, with its own arguments.
        max_epochs: passes over the training images.
        max_steps: optimiser steps.
        max_seconds: stop training earlier, after so much wall time; the schedule then runs to its
            end in that time, and a run is no longer reproducible to the bit.
        param_options: learning rates and decay by parameter name.
        schedule: factor of the learning rate over the run; constant by default.
        clip_grad_norm: largest norm of all gradients together.
        accumulate: batches whose gradients are averaged into one step.
        lr_batch_size: images a step that the optimiser's `lr` is for; where a step has others,
            over all processes and accumulated batches, `lr` is scaled by the ratio.
        ema: average of the weights, which is evaluated and shipped.
        amp: precision of convolutions and matrix products, in evaluation and search as well;
            float32 by default. auto takes bf16 where the processor (AMX, AVX-512) or the GPU
            computes in it, else float32, and says so. Losses and boxes are float32 always.
        memory_format: how maps and weights lie in memory; channels_last is faster for
            convolutions and changes nothing but rounding. Checkpoints do not depend on it.
        eval_every: evaluate so often, in epochs with `max_epochs`, in steps with `max_steps`; at
            the end only by default.
        save_every: save last.pt so often, likewise; by default as often as evaluating, or after
            each epoch.
        keep: further checkpoints to keep beside last.pt and best.pt.
        best_metric: metric by which best.pt is chosen, more is better; by default the first one.
        patience: stop once so many evaluations in a row have not raised the best metric.
        log_every: steps between lines of metrics.jsonl.
        tensorboard: also write event files.
        loggers: trackers that get the numbers of metrics.jsonl as well.
    """

    optimizer: Partial[torch.optim.Optimizer]
    max_epochs: Count | None = None
    max_steps: Count | None = None
    max_seconds: Positive | None = None
    param_options: ParamOptions = field(default_factory=ParamOptions)
    schedule: Factory[Schedule] | None = None
    clip_grad_norm: Positive | None = None
    accumulate: Count = 1
    lr_batch_size: Count | None = None
    ema: EmaConfig | None = None
    amp: Amp | None = None
    memory_format: MemoryFormat = "channels_last"
    eval_every: Count | None = None
    save_every: Count | None = None
    keep: Whole = 0
    best_metric: str | None = None
    patience: Count | None = None
    log_every: Count = 20
    tensorboard: bool = False
    loggers: Sequence[Logger] = ()

    def __post_init__(self) -> None:
        if (self.max_epochs is None) == (self.max_steps is None):
            raise ConfigError(
                f"train takes exactly one of max_epochs and max_steps, got {self.max_epochs} and "
                f"{self.max_steps}; set one of them to null"
            )
        if self.patience is not None and self.eval_every is None:
            raise ConfigError("train.patience counts evaluations; set train.eval_every as well")

        if self.lr_batch_size is not None and "lr" not in getattr(self.optimizer, "kwargs", {}):
            raise ConfigError(
                "scales train.optimizer.lr, which is not given; set it, or leave this out",
                key="lr_batch_size",
            )

    def compute(self, device: torch.device) -> Compute:
        """Return how models compute on a device.

        Raises:
            ConfigError: it cannot compute in this precision.
        """
        return Compute.of(device, self.amp, self.memory_format)

    def total_steps(self, batches: int) -> int:
        """Return the optimiser steps of the whole run, given the batches of an epoch."""
        return self.max_steps or max(1, (self.max_epochs or 0) * batches // self.accumulate)

    def epochs(self, step: int, batches: int) -> int:
        """Return the epochs that are complete after some steps."""
        return step * self.accumulate // batches

    def plan(self, batches: int, *, evaluates: bool = True) -> str:
        """Return in words how long is trained and what happens how often.

        Args:
            batches: of an epoch.
            evaluates: whether there is anything to evaluate on.
        """
        unit = "steps" if self.max_steps else "epochs"
        steps = self.total_steps(batches)
        epochs = "" if self.max_steps else f" in {self.max_epochs} epochs"
        save = self.save_every or self.eval_every
        often = f"every {self.eval_every} {unit} and " if self.eval_every else ""
        evaluating = f"evaluating {often}at the end" if evaluates else "evaluating nothing"
        saving = f"every {save} {unit}" if save else "after every epoch"
        return (
            f"training {steps} steps{epochs}, {evaluating}, saving {saving} "
            f"(an epoch is {batches} batches)"
        )

    def evaluates_after(self, step: int, batches: int) -> bool:
        """Return whether an evaluation is due after some steps, besides the one at the end."""
        return self.eval_every is not None and self._ends(self.eval_every, step, batches)

    def evaluations_left(self, step: int, batches: int) -> int:
        """Return how many evaluations come after some steps, that at the end included."""
        total = self.total_steps(batches)
        last = step < total and not self.evaluates_after(total, batches)
        if self.eval_every is None:
            return int(last)
        places = [s if self.max_steps else self.epochs(s, batches) for s in (step, total)]
        return places[1] // self.eval_every - places[0] // self.eval_every + last

    def saves_after(self, step: int, batches: int) -> bool:
        """Return whether last.pt is due after some steps, besides the one at the end."""
        every = self.save_every or self.eval_every
        if every is not None:
            return self._ends(every, step, batches)
        return self.epochs(step, batches) > self.epochs(step - 1, batches)

    def _ends(self, every: int, step: int, batches: int) -> bool:
        """Return whether an interval of epochs, or of steps, ends with a step."""
        if self.max_steps:
            return step % every == 0
        return self.epochs(step, batches) // every > self.epochs(step - 1, batches) // every
