"""Label maps: tensors of channel numbers, shaped like the activations they describe.

A map is an int64 tensor. Dimensions along which the numbers do not change have stride 0, so that
a map takes hardly any memory, and views, chunks and shuffles are done on it by torch itself.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from razorlite.trace.ledger import Labels, Ledger


def blank(shape: Sequence[int]) -> Tensor:
    """Return a map of channels that nothing is known about."""
    return torch.full((1,) * len(shape), -1, dtype=torch.int64).expand(tuple(shape))


def broadcast(labels: Labels, dim: int, shape: Sequence[int]) -> Tensor:
    """Return a map of `shape` with the labels along dimension `dim`."""
    sides = [1] * len(shape)
    sides[dim] = -1
    return settle(torch.from_numpy(labels).reshape(sides).expand(tuple(shape)))


def of_tensor(name: str | None, shape: Sequence[int], ledger: Ledger) -> Tensor:
    """Return the map of a bare tensor, or of a constant that has no name."""
    if name is None:
        return blank(shape)
    return rooted(torch.from_numpy(ledger.elements(name, shape)), ledger)


def settle(labels: Tensor) -> Tensor:
    """Give stride 0 to every dimension along which a map, of any shape, does not change."""
    if labels.numel() == 0:
        return blank(labels.shape)
    for dim in varying(labels):
        first = labels.narrow(dim, 0, 1)
        if bool((compact(labels) == compact(first)).all()):
            labels = first.expand(labels.shape)
    return labels


def varying(labels: Tensor) -> list[int]:
    """Return the dimensions along which a settled map, of any shape, changes."""
    return [d for d, n in enumerate(labels.shape) if n > 1 and labels.stride(d) != 0]


def compact(labels: Tensor) -> Tensor:
    """Return the map, of any shape, with one entry along each dimension of stride 0."""
    for dim in range(labels.dim()):
        if labels.shape[dim] > 1 and labels.stride(dim) == 0:
            labels = labels.narrow(dim, 0, 1)
    return labels


def numbers(labels: Tensor) -> Labels:
    """Return the (K,) numbers of a map of any shape, each at least once."""
    return compact(labels).reshape(-1).numpy()


def line(labels: Tensor, dim: int) -> Labels | None:
    """Return the (D,) labels along one dimension, or None if the map changes along another."""
    dim %= labels.dim()
    if any(d != dim for d in varying(labels)):
        return None
    starts = labels.movedim(dim, 0).flatten(1)[:, 0] if labels.dim() > 1 else labels
    copied: Labels = starts.numpy().copy()
    return copied


def rooted(labels: Tensor, ledger: Ledger) -> Tensor:
    """Return the map in its shape, each number replaced by the one for all it is tied to."""
    small = compact(labels)
    roots = torch.from_numpy(np.ascontiguousarray(ledger.roots(small.numpy())))
    return settle(roots.expand(labels.shape))


def tie_along(labels: Tensor, dims: Sequence[int], ledger: Ledger, where: str) -> Tensor:
    """Tie what differs only along `dims`; return the map after that, in its shape."""
    small = compact(labels)
    others = [d for d in range(small.dim()) if d not in dims]
    count = int(np.prod([small.shape[d] for d in others]))
    ledger.tie(small.permute(*others, *dims).reshape(count, -1).numpy(), where)
    return rooted(labels, ledger)
