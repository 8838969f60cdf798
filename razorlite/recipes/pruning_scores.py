"""Batches for importance that is gathered from gradients, and for losses of slim models."""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Any

import torch

from razorlite.core.distributed import rank
from razorlite.cost.count import evaluating
from razorlite.data import Loader
from razorlite.engine.random_state import seed_everything
from razorlite.prune import Channels, DataImportance, Importance, Pruner, Trial
from razorlite.recipes.splits import Splits


def gathered(pruner: Pruner, channels: Channels, splits: Splits) -> Pruner:
    """Let a pruner's importance see training batches, where it needs any.

    The model computes as in evaluation, with its losses; it is as before afterwards. The same
    model and configuration give the same scores.

    Args:
        pruner: its importance is gathered anew.
        channels: of the model.
        splits: training images, and the device to run on.

    Returns:
        The pruner.
    """
    importance: Importance = pruner.importance
    if isinstance(importance, DataImportance):
        seed_everything(splits.experiment.seed, rank())
        importance.reset()
        _gather(importance, channels, splits)
    return pruner


def trial_of(splits: Splits, count: int) -> Trial:
    """Return what tells the losses of models on so many training batches, always the same ones."""
    seed_everything(splits.experiment.seed, rank())
    with closing(splits.train_loader()) as loader:
        batches = list(islice(_batches(loader), count))
    return Trial(batches, place=splits.compute.place, context=splits.compute.autocast)


def _gather(importance: DataImportance, channels: Channels, splits: Splits) -> None:
    model, groups = channels.model, channels.graph.prunable
    splits.compute.place(model)
    try:
        with closing(splits.train_loader()) as loader, evaluating(model):
            for batch in islice(_batches(loader), importance.batches):
                with splits.compute.autocast():
                    importance.accumulate(model, groups, batch)
                model.zero_grad(set_to_none=True)
    finally:
        model.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _batches(loader: Loader) -> Iterator[Any]:
    """Yield batches, epoch after epoch."""
    epoch = 0
    while True:
        loader.set_position(epoch, 0)
        yield from loader
        epoch += 1
