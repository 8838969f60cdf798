"""What a run is and how far it has come: shared by the runner, its hooks and its checkpoints."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from razorlite.engine.config import TrainConfig
from razorlite.engine.ema import Ema
from razorlite.engine.steps import Step
from razorlite.engine.update import Update
from razorlite.engine.window import Window


@dataclass(kw_only=True, eq=False)
class RunState:
    """The parts of a run, and its position in time; the runner alone changes it.

    Attributes:
        model: what is trained, on its device.
        step: batch to gradients and metrics.
        loader: where batches come from.
        config: how long and how.
        folder: run folder.
        update: from gradients to new weights; has the optimiser.
        ema: averaged weights, where there are any.
        meta: plain values kept in checkpoints.
        batches: in an epoch of this process.
        total_steps: of the whole run.
        max_seconds: when the run ends at the latest, where time counts.
        step_number: optimiser steps done.
        seconds: training time so far, over all sittings; without evaluation.
        first_step: `step_number` at the start of this sitting.
        first_seconds: `seconds` at the start of this sitting.
        evaluations: of this sitting.
        evaluation_seconds: that they took.
        lr: learning rate of the last step, of the first parameter group.
        best: score of best.pt.
        stale: evaluations since the one that best.pt is of.
        metrics: of the last evaluation.
        settled: whether the last step's line, evaluation and checkpoint are done.
        window: sums of the metrics since the last logged line.
    """

    model: nn.Module
    step: Step
    loader: Any
    config: TrainConfig
    folder: Path
    update: Update
    ema: Ema | None
    meta: Mapping[str, Any]
    batches: int
    total_steps: int
    max_seconds: float | None
    step_number: int = 0
    seconds: float = 0.0
    first_step: int = 0
    first_seconds: float = 0.0
    evaluations: int = 0
    evaluation_seconds: float = 0.0
    lr: float = 0.0
    best: float | None = None
    stale: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    settled: bool = True
    window: Window = field(default_factory=Window)

    @property
    def last(self) -> Path:
        """The checkpoint that the run goes on from."""
        return self.folder / "checkpoints" / "last.pt"

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.update.device

    @property
    def best_metric(self) -> str:
        """The metric by which best.pt is chosen; the first one where none is named."""
        return self.config.best_metric or next(iter(self.metrics), "")

    def is_finished(self) -> bool:
        """Return whether all steps are done, the time is used up, or nothing gets better."""
        patience = self.config.patience
        if patience is not None and self.stale >= patience:
            return True
        late = self.max_seconds is not None and self.seconds >= self.max_seconds
        return self.step_number >= self.total_steps or late

    def averaged(self) -> AbstractContextManager[Any]:
        """Return a context in which the model has its averaged weights, where there are any."""
        return self.ema.swapped() if self.ema else nullcontext()
