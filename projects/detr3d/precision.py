"""Layers whose outputs are places in metres, which bf16 would move by decimetres."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn


def exactly(module: nn.Module, x: Tensor) -> Tensor:
    """Return module(x), of any shape (…), computed in the precision of its weights.

    Within autocast, too, where layers compute in a lower one.
    """
    weight = next(module.parameters())
    with _without_autocast(weight.device.type):
        out: Tensor = module(x.to(weight.dtype))
    return out


def _without_autocast(kind: str) -> AbstractContextManager[object]:
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)
