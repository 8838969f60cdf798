"""What each process keeps beside the state that all share, and other numbers of processes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from razorlite.core.distributed import is_distributed, is_main, rank, world_size
from razorlite.core.errors import CheckpointError
from razorlite.engine.random_state import random_state, set_random_state
from razorlite.engine.run_state import RunState

_log = logging.getLogger("razorlite")


def statistics(run: RunState) -> list[Tensor]:
    """Return floating buffers, of model, average and step, which ranks average at times."""
    averages = run.ema.buffers() if run.ema else ()
    buffers = [*run.model.buffers(), *averages, *run.step.statistics()]
    return [buffer for buffer in buffers if buffer.is_floating_point()]


def own_state(run: RunState) -> dict[str, Any]:
    """Return what only this process knows: random state, sums of the open line, statistics."""
    apart = statistics(run) if is_distributed() and not run.settled else []
    return {
        "rng": random_state(),
        "window": run.window.state_dict(),
        "statistics": [buffer.detach().cpu().clone() for buffer in apart],
    }


@torch.no_grad()
def take_own_state(
    run: RunState, random: Sequence[Mapping[str, Any]], states: Sequence[Mapping[str, Any]]
) -> None:
    """Take up this process's part of what all have kept.

    With another number of processes than before, the first one goes on with the joined sums.
    """
    if rank() < len(random):
        set_random_state(random[rank()])
    if len(states) != world_size():
        windows = [state["window"] for state in states] if is_main() else []
        run.window.load_joined(windows, world_size() / len(states))
        return
    run.window.load_state_dict(states[rank()]["window"])
    for buffer, value in zip(statistics(run), states[rank()]["statistics"], strict=False):
        buffer.copy_(value)


def check_processes(run: RunState, before: int, images: int | None, path: object) -> None:
    """Refuse to go on with another number of processes where that would train otherwise.

    Args:
        run: that goes on.
        before: the number of processes that wrote the checkpoint.
        images: in a batch of all of them together; None where that is not known.
        path: the checkpoint.

    Raises:
        CheckpointError: batches would hold other images, or batch norm would see other numbers of
            them at once.
    """
    now = world_size()
    if before == now:
        return
    advice = f"start {before} (torchrun --nproc-per-node {before}), or start a new run by load_from"
    head = f"{path} was trained by {before} processes, now there are {now}"
    if images is None or images != images_per_batch(run):
        raise CheckpointError(
            f"{head}, and a batch of all together would have {images_per_batch(run)} images "
            f"and not {images}; {advice}"
        )
    norm = _batch_norm(run.model)
    if norm is not None:
        raise CheckpointError(
            f"{head}, and batch norm ({norm}) would see {images // now} images at a time and not "
            f"{images // before}; {advice}"
        )
    if is_main():
        _log.warning(
            "resuming with %d processes what %d have begun: every step sees the same images; "
            "rounding and random draws on the device may differ",
            now,
            before,
        )


def images_per_batch(run: RunState) -> int | None:
    """Return the images in a batch of all processes together; None if the loader does not say."""
    size = getattr(run.loader, "batch_size", None)
    return None if size is None else size * world_size()


def _batch_norm(model: nn.Module) -> str | None:
    """Return the name of a batch norm that computes its statistics in training, if there is one."""
    model.train()
    kinds = nn.modules.batchnorm._BatchNorm
    found = (n for n, m in model.named_modules() if isinstance(m, kinds) and m.training)
    return next(found, None)
