"""How many images a training step takes: tried in doubling batches."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from razorlite.core.distributed import gather_objects
from razorlite.engine.metrics_log import memory_mb
from razorlite.engine.steps import Step
from razorlite.engine.update import Update

SHARE = 0.8  # of the memory that is free before, which a step may take
_GAIN = 1.05  # times the images a second that twice the images must bring on a processor
_LEAST, _MOST = 2, 1024  # images; batch norms need two
_REPEATS = 3
_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class TriedBatch:
    """One number of images that was tried.

    Attributes:
        images: in the batch of one process.
        rate: images a second of one process.
        memory: share of the memory free before that was taken, 1 for all of it.
    """

    images: int
    rate: float
    memory: float


def doubling(
    attempt: Callable[[int], TriedBatch | None], images: int, *, by_rate: bool
) -> list[TriedBatch]:
    """Try batches of 2, 4, 8, … images; return those that are worth it, the chosen one last.

    It ends with a batch that takes over 0.8 of the memory free before, with one of which twice the
    images would by what the last doubling took, and with 1,024 images or all there are.

    Args:
        attempt: tries a number of images; None where they do not fit.
        images: of the training set.
        by_rate: end as well where twice the images bring less than 5 % more images a second, as
            on a processor, whose memory is seldom what ends it.

    Returns:
        None at all if not even the first one fits.
    """
    found: list[TriedBatch] = []
    size = min(_LEAST, images)
    while size <= min(_MOST, images) and not (found and _next_memory(found) > SHARE):
        tried = attempt(size)
        if tried is None or tried.memory > SHARE:
            break
        if by_rate and found and tried.rate < _GAIN * found[-1].rate:
            break
        found.append(tried)
        size *= 2
    return found


def _next_memory(found: list[TriedBatch]) -> float:
    """Return what twice the images would take: as much more again as the last ones took."""
    last = found[-1].memory
    return 2 * last if len(found) == 1 else last + 2 * (last - found[-2].memory)


class BatchTrial:
    """Trains steps on batches of a number of images, and measures them.

    All processes call it with the same numbers; the worst of them counts.

    Args:
        model: to train, on its device; it is changed: give a copy.
        step: batch to gradients and metrics.
        update: what moves the weights.
        batches: number of images to batches.
    """

    def __init__(
        self,
        model: nn.Module,
        step: Step,
        update: Update,
        batches: Callable[[int], Iterator[Any]],
    ) -> None:
        self._model, self._step, self._update, self._batches = model, step, update, batches
        self._device = update.device
        self._before = 0.0 if self._device.type == "cuda" else memory_mb(self._device)
        self._free = free_mb(self._device)
        model.train()
        for group in update.optimizer.param_groups:
            group["lr"] = 0.0  # steps on one batch would run away

    def __call__(self, images: int) -> TriedBatch | None:
        """Return what a batch of so many images takes; None where it does not fit."""
        found = gather_objects(self._alone(images))
        if any(one is None for one in found):
            return None
        known = [one for one in found if one is not None]
        slowest, largest = min(k.rate for k in known), max(k.memory for k in known)
        return TriedBatch(images, slowest, largest)

    def _alone(self, images: int) -> TriedBatch | None:
        try:
            batch = next(self._batches(images))
            seconds = min(self._seconds(batch) for _ in range(_REPEATS))
        except (torch.cuda.OutOfMemoryError, MemoryError):
            return None
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):
                raise
            return None
        taken = memory_mb(self._device) - self._before
        return TriedBatch(images, images / seconds, max(0.0, taken) / self._free)

    def _seconds(self, batch: Any) -> float:
        self._wait()
        start = time.perf_counter()
        self._step.begin(0)
        self._update.gradients(self._step, self._model, iter([batch]))
        self._update.optimizer.step()
        self._update.optimizer.zero_grad()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def free_mb(device: torch.device) -> float:
    """Return the memory that this process can take in MiB; endless where nothing says."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        free, _ = torch.cuda.mem_get_info(device)
        return (free + torch.cuda.memory_allocated(device)) / 2**20
    return min(_machine_mb(), _group_mb())


def _machine_mb() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        return _pages_mb()
    kib = next((line.split()[1] for line in lines if line.startswith("MemAvailable")), None)
    return _pages_mb() if kib is None else float(kib) / 1024


def _pages_mb() -> float:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _group_mb() -> float:
    """Return what a container's limit leaves."""
    try:
        limit, used = ((_GROUP / f"memory.{n}").read_text().strip() for n in ("max", "current"))
        return float("inf") if limit == "max" else (float(limit) - float(used)) / 2**20
    except (OSError, ValueError):
        return float("inf")
