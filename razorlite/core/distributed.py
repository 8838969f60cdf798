"""Collectives that are no-ops in a single process (torchrun sets up the others)."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from razorlite.core.ranks import is_apart

T = TypeVar("T")
_PATIENCE = timedelta(days=365)


def is_distributed() -> bool:
    """Return whether a process group is running that this process works with."""
    return dist.is_available() and dist.is_initialized() and not is_apart()


def rank() -> int:
    """Return this process's rank, 0 without a process group."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Return the number of processes, 1 without a process group."""
    return dist.get_world_size() if is_distributed() else 1


def is_main() -> bool:
    """Return whether this process writes the files."""
    return rank() == 0


def all_reduce_mean(value: Tensor) -> Tensor:
    """Return the mean over all processes, in the shape of the input; no gradient."""
    if not is_distributed():
        return value.detach()
    total = for_exchange(value.detach().clone())
    dist.all_reduce(total)
    return (total / world_size()).to(value.device)


def all_reduce_max(value: Tensor) -> Tensor:
    """Return the elementwise maximum, of the input's shape, over all processes; no gradient."""
    if not is_distributed():
        return value.detach()
    top = for_exchange(value.detach().clone())
    dist.all_reduce(top, op=dist.ReduceOp.MAX)
    return top.to(value.device)


def for_exchange(value: Tensor) -> Tensor:
    """Return a tensor, in its shape, where processes can exchange it: NCCL takes those on GPUs."""
    return value.to(_exchange_device()) if value.device.type == "cpu" else value


def gather_objects(value: T, group: Any = None) -> list[T]:
    """Return every process's picklable value, in rank order, on every process.

    Args:
        value: of this process.
        group: of processes that talk to each other; the one of all by default.
    """
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value, group=group)
    return values


def late_gather() -> Callable[[Any], list[Any]]:
    """Return a `gather_objects` for processes that come to it hours apart; all call both."""
    if not is_distributed():
        return gather_objects
    group: Any = dist.new_group(backend="gloo", timeout=_PATIENCE)

    def gather(value: Any) -> list[Any]:
        values = gather_objects(value, group)
        dist.destroy_process_group(group)
        return values

    return gather


def broadcast_object(value: T) -> T:
    """Return rank 0's picklable value on every process."""
    if not is_distributed():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=_exchange_device())
    return box[0]


def barrier() -> None:
    """Wait for all processes."""
    if is_distributed():
        dist.barrier()


def _exchange_device() -> torch.device:
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
