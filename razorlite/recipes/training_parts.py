"""What a training is made of: the model on its device, the step, the batches."""

from typing import Any

from torch import nn

from razorlite.distill import Length, NoiseLoader, SyntheticStep, noise_for
from razorlite.engine.config import TrainConfig
from razorlite.engine.steps import Step
from razorlite.recipes.building import Built
from razorlite.recipes.experiment import Experiment
from razorlite.recipes.splits import Splits
from razorlite.recipes.steps import Known, build_step, chain
from razorlite.recipes.teaching import build_distiller


def length_of(config: TrainConfig, batches: int) -> Length:
    """Return how long a training is, given the batches of an epoch."""
    return Length(config.total_steps(batches), batches / config.accumulate)


def training_parts(
    experiment: Experiment, built: Built, splits: Splits, more: Known | None = None
) -> tuple[nn.Module, Step, Any]:
    """Return the model on its device, the training step, and the batches; see `build_runner`.

    Raises:
        ConfigError: the steps do not go together.
        CheckpointError: the teacher's checkpoint cannot be read.
    """
    assert experiment.train is not None
    model = splits.compute.place(built.model)
    loader = None if experiment.without_data else splits.train_loader()
    images = None if loader is None else len(splits.train)
    step = build_step(
        experiment,
        built,
        lambda: build_distiller(experiment, model, splits.classes, splits.device, images),
        length_of(experiment.train, 1 if loader is None else len(loader)),
        more,
    )
    return model, step, _noise(step, splits) if loader is None else loader


def _noise(step: Step, splits: Splits) -> NoiseLoader:
    """Return what a student without data is trained on; an epoch is the whole run."""
    experiment = splits.experiment
    assert experiment.train is not None
    assert experiment.train.max_steps is not None
    [own] = [part for part in chain(step) if isinstance(part, SyntheticStep)]
    splits.compute.place(own.generator)
    length, seed = experiment.train.max_steps, experiment.seed
    return noise_for(own, length=length, seed=seed, device=splits.device)
