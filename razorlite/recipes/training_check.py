"""What a `train` block asks for in vain: what comes after its end, evaluations without images."""

from collections.abc import Iterator

import torch

from razorlite.core.config import Config
from razorlite.core.errors import ConfigError
from razorlite.engine.config import TrainConfig
from razorlite.recipes.experiment import Experiment
from razorlite.recipes.splits import Splits

_OF_EVALUATIONS = ("eval_every", "patience", "best_metric")


def late_in_schedule(config: Config, train: TrainConfig) -> Iterator[tuple[str, str]]:
    """Yield what of a schedule comes after the run's end: the key, and what is odd about it."""
    warmup = config.get("train.schedule.warmup_steps") or 0
    if train.max_steps is not None and warmup >= train.max_steps:
        yield "train.schedule.warmup_steps", f"last for all {train.max_steps} steps"
    unit = config.get("train.schedule.unit", "epoch")
    length = train.max_epochs if unit == "epoch" else train.max_steps
    milestones = config.get("train.schedule.milestones") or []
    late = [m for m in milestones if length and m >= length]
    if late:
        yield "train.schedule.milestones", f"{late} are not before the end, {length}"


def check_evaluations(experiment: Experiment) -> None:
    """Refuse settings of evaluations where there is nothing to evaluate on.

    Raises:
        ConfigError: as described; names the setting and what it lacks.
    """
    splits = Splits(experiment, torch.device("cpu"))
    if experiment.data is None or experiment.data.val is not None or splits.holds_out:
        return
    for key, train in experiment.trainings.items():
        for name in _OF_EVALUATIONS:
            if getattr(train, name) is not None:
                raise ConfigError(
                    f"is of evaluations on data.val, which is not given; add it, or leave this out "
                    f"by {key}.{name}=null",
                    key=f"{key}.{name}",
                )
