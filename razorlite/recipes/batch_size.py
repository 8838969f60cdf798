"""`data.train.batch_size: auto` and `train.lr_batch_size`: what they come to before a training."""

import gc
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from razorlite.core import config as core_config
from razorlite.core.config import Config
from razorlite.core.distributed import is_main, rank
from razorlite.core.errors import TrainingError
from razorlite.engine.batch_size import SHARE, BatchTrial, TriedBatch, doubling
from razorlite.engine.random_state import seed_everything
from razorlite.engine.update import build_update
from razorlite.recipes.building import build
from razorlite.recipes.data_config import AUTO
from razorlite.recipes.experiment import Experiment
from razorlite.recipes.rate_scaling import scaled_rate
from razorlite.recipes.splits import Splits
from razorlite.recipes.starting import begin
from razorlite.recipes.training_parts import training_parts

_log = logging.getLogger("razorlite")
_KEY = "data.train.batch_size"


def settled(
    config: Config, experiment: Experiment, device: torch.device, folder: Path | None = None
) -> tuple[Config, Experiment]:
    """Return a configuration whose batches have a number of images, and its typed form.

    `auto` is tried on a copy of what is trained, which changes no random number of the training:
    the number alone makes the same run. All processes call it.

    Args:
        config: a checked one.
        experiment: its typed form.
        device: to train on.
        folder: run folder to go on in, whose config.yaml has the number.

    Raises:
        TrainingError: no batch fits into the memory.
    """
    if config.get(_KEY) != AUTO:
        return config, experiment
    size = _settled_before(folder) or _tried(experiment, device)
    full = scaled_rate(core_config.load(config, {_KEY: size}))
    seed_everything(experiment.seed, rank())
    return full, core_config.build(full, Experiment)


def _settled_before(folder: Path | None) -> int | None:
    """Return the number in a run's config.yaml; None where there is none."""
    path = None if folder is None else folder / "config.yaml"
    if path is None or not path.is_file():
        return None
    size = core_config.load(path, imports=False).get(_KEY)
    return size if isinstance(size, int) else None


def _tried(experiment: Experiment, device: torch.device) -> int:
    """Return how many images are best, and log why."""
    found = _trials(experiment, device)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if not found:
        raise TrainingError(
            f"{_KEY}: auto finds no room: a step of two images takes over {SHARE:.0%} of the free "
            f"memory of {device}; take smaller images or a smaller model"
        )
    if is_main():
        _log.info("%s: auto takes %d: %s", _KEY, found[-1].images, _told(found, device))
        _tell_rate(experiment)
    return found[-1].images


def _trials(experiment: Experiment, device: torch.device) -> list[TriedBatch]:
    assert experiment.data is not None
    assert experiment.data.train is not None
    assert experiment.train is not None
    train = replace(experiment.data.train, batch_size=1, num_workers=0)
    copy = replace(experiment, data=replace(experiment.data, train=train))
    built = build(copy)
    splits = begin(built, copy, device, None).splits
    model, step, _ = training_parts(copy, built, splits)
    update = build_update(model, experiment.train, step)
    trial = BatchTrial(model, step, update, lambda images: _batches(splits, images))
    return doubling(trial, len(splits.train), by_rate=device.type == "cpu")


def _batches(splits: Splits, images: int) -> Iterator[Any]:
    return iter(splits.train_loader(size=images))


def _told(found: list[TriedBatch], device: torch.device) -> str:
    if device.type == "cpu":
        rates = ", ".join(f"{one.rate:.3g} with {one.images}" for one in found)
        return f"images a second {rates}; more images are not faster, or do not fit"
    return f"{found[-1].memory:.0%} of the memory; twice as many would take over {SHARE:.0%}"


def _tell_rate(experiment: Experiment) -> None:
    if experiment.train is not None and experiment.train.lr_batch_size is None:
        _log.warning(
            "the learning rate stays as it is for any number of images; name the images a step "
            "that it is meant for by train.lr_batch_size, and it is scaled by the ratio"
        )
