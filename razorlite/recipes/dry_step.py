"""The training step of an experiment on shapes alone, to find what does not go together."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from razorlite.core import config as core_config
from razorlite.core.config import Config
from razorlite.core.errors import ConfigError
from razorlite.distill import DistilledStep, Distiller, DistillerConfig
from razorlite.engine.steps import Step
from razorlite.recipes.building import Built, build
from razorlite.recipes.experiment import Experiment, read
from razorlite.recipes.steps import build_step, chain
from razorlite.structures import example_inputs


def plain_build(config: Config, overrides: dict[str, Any]) -> Callable[[], Built]:
    """Return what builds a configuration's model without fetching pretrained weights."""
    fetched = {f"model.{key}": None for key in keys_of(config.tree.get("model"), "pretrained")}
    changed = core_config.load(config, {**fetched, **overrides})
    experiment = core_config.build(changed, Experiment)
    return lambda: build(experiment)


def keys_of(tree: Any, name: str, path: str = "") -> Iterator[str]:
    """Yield the paths of all keys of a name in nested dicts."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        here = f"{path}.{key}" if path else key
        if key == name and value is not None:
            yield here
        yield from keys_of(value, name, here)


def dry_step(experiment: Experiment, built: Built) -> Step:
    """Return an experiment's training step, its teacher without values.

    Args:
        experiment: the configuration.
        built: the model, on shapes or not.

    Raises:
        ConfigError: the steps do not go together, or not with the model.
    """
    steps = experiment.train.max_steps if experiment.train is not None else None
    with torch.device("meta"):
        return build_step(experiment, built, lambda: _distiller(experiment.distiller), steps)


def compare_once(step: Step, student: nn.Module, shape: tuple[int, int]) -> None:
    """Let the distillers of a step compare a student with its teacher.

    Args:
        step: what `dry_step` returned.
        student: the model; is in evaluation mode afterwards.
        shape: (height, width) in pixels of the images.

    Raises:
        ConfigError: the two sides do not fit.
    """
    inputs = example_inputs(student, shape, count=2, device="meta")
    for distiller in [part.distiller for part in chain(step) if isinstance(part, DistilledStep)]:
        taught = distiller.teach(inputs)
        with distiller.recorder(student) as recorder:
            student.eval()
            student(inputs)
            distiller.compare(recorder, taught)


def _distiller(settings: DistillerConfig | None) -> Distiller:
    assert settings is not None
    theirs, _ = read(settings.teacher.config)
    path = settings.teacher.subnet
    built = plain_build(theirs, {} if path is None else {"subnet": path})()
    if built.is_supernet:
        raise ConfigError(
            "is a supernet; name a path of it by `subnet`", key="distiller.teacher.config"
        )
    return Distiller(teacher=built.model, pairs=settings.pairs)
