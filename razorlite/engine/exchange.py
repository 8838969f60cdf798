"""Gradients and buffers between processes: flattened all-reduce, no wrapper around the model."""

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from razorlite.core.distributed import for_exchange, is_distributed, world_size


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with rank 0's."""
    if is_distributed():
        for bucket in _buckets(tensors):
            flat = for_exchange(_flatten(bucket))
            dist.broadcast(flat, src=0)
            _scatter(flat, bucket)


def average_tensors(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with their mean over all ranks."""
    if is_distributed():
        for bucket in _buckets(tensors):
            flat = for_exchange(_flatten(bucket))
            dist.all_reduce(flat)
            _scatter(flat.div_(world_size()), bucket)


def agree(
    parameters: Sequence[nn.Parameter], flags: Sequence[bool]
) -> tuple[list[nn.Parameter], list[bool]]:
    """Join over all ranks which parameters have a gradient, and what was flagged.

    A parameter that has a gradient on any rank gets one, of zeros, on the others: all ranks
    exchange the same list. One collective of a byte per parameter and flag.

    Returns:
        The parameters with a gradient on any rank, and each flag raised on any rank.
    """
    if not is_distributed():
        return [p for p in parameters if p.grad is not None], list(flags)
    mine = [*flags, *(p.grad is not None for p in parameters)]
    joined = for_exchange(torch.tensor(mine, dtype=torch.uint8, device=parameters[0].device))
    dist.all_reduce(joined, op=dist.ReduceOp.MAX)
    values = joined.tolist()
    head, tail = values[: len(flags)], values[len(flags) :]
    active = [p for p, expected in zip(parameters, tail, strict=True) if expected]
    for parameter in active:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return active, [bool(flag) for flag in head]


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all ranks; the list must be the same on all."""
    average_tensors(p.grad for p in parameters if p.grad is not None)


def _buckets(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Sort tensors by what one flat tensor can hold."""
    buckets: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        buckets.setdefault((tensor.dtype, tensor.device), []).append(tensor.detach())
    return list(buckets.values())


def _flatten(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _scatter(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))
