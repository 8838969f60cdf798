"""The `train` block of a configuration."""

from dataclasses import dataclass, field
from typing import Literal

import torch

from razorlite.core.config import Factory, Partial
from razorlite.core.errors import ConfigError
from razorlite.engine.ema import EmaConfig
from razorlite.engine.optim import ParamOptions
from razorlite.engine.schedules import Schedule


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
        ema: average of the weights, which is evaluated and shipped.
        amp: precision of the forward pass; float32 by default.
        eval_every: evaluate so often; at the end only by default.
        save_every: save last.pt so often; as often as evaluating by default.
        keep: further checkpoints to keep beside last.pt and best.pt.
        best_metric: figure by which best.pt is chosen, more is better; by default the first one.
        log_every: steps between lines of metrics.jsonl.
        tensorboard: also write event files.
    """

    optimizer: Partial[torch.optim.Optimizer]
    max_epochs: int | None = None
    max_steps: int | None = None
    max_seconds: float | None = None
    param_options: ParamOptions = field(default_factory=ParamOptions)
    schedule: Factory[Schedule] | None = None
    clip_grad_norm: float | None = None
    accumulate: int = 1
    ema: EmaConfig | None = None
    amp: Literal["bf16", "fp16"] | None = None
    eval_every: int | None = None
    save_every: int | None = None
    keep: int = 0
    best_metric: str | None = None
    log_every: int = 20
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if (self.max_epochs is None) == (self.max_steps is None):
            raise ConfigError(
                f"train takes exactly one of max_epochs and max_steps, got {self.max_epochs} and "
                f"{self.max_steps}"
            )
        for name in (
            "max_epochs",
            "max_steps",
            "accumulate",
            "eval_every",
            "save_every",
            "log_every",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"train.{name} must be at least 1, got {value}")

    def total_steps(self, epoch_steps: int) -> int:
        """Return the optimiser steps of the whole run, given those of an epoch."""
        return self.max_steps or (self.max_epochs or 0) * epoch_steps

    def every(self, count: int | None, epoch_steps: int) -> int | None:
        """Return an interval in steps."""
        return count if count is None or self.max_steps else count * epoch_steps
