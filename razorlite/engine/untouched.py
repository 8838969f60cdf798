"""Evaluating in the middle of training without changing it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from razorlite.engine.random_state import kept_random_state


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Leave a model and the random generators as they were before the block.

    Modes, buffers (statistics of norms), what requires a gradient and the gradients come back,
    whatever an evaluation does to them.
    """
    modes = {module: module.training for module in model.modules()}
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    gradients = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    with kept_random_state():
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)
            for parameter, expected, gradient in gradients:
                parameter.requires_grad_(expected).grad = gradient
