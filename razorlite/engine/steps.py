"""The contract of a training step, and the plain one."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from razorlite.core.registry import register

Backward = Callable[[Tensor], None]


class Step(Protocol):
    """What happens between a batch and the gradients.

    A step computes losses, calls `backward(loss)` once or several times (gradients add up) and
    returns figures for the log. It may also have

    * `begin(step_number)`, called before each optimiser step, counting from 0;
    * `parameters()` or `named_parameters()`, trained beside the model's;
    * `state_dict()` and `load_state_dict(state)`, kept in checkpoints.
    """

    def __call__(self, model: nn.Module, batch: Any, backward: Backward, /) -> dict[str, float]: ...


@register()
def plain_step(model: nn.Module, batch: Any, backward: Backward) -> dict[str, float]:
    """Train on the sum of `model.loss(batch.images, batch.targets)`.

    Returns:
        The losses by name, and their sum as `loss`.
    """
    losses = model.loss(batch.images, batch.targets)  # type: ignore[operator]
    total = torch.stack([value.float() for value in losses.values()]).sum()
    backward(total)
    return figures_of(losses, total)


def figures_of(losses: dict[str, Tensor], total: Tensor) -> dict[str, float]:
    """Return losses and their total as numbers, fetched from the device at once."""
    values = torch.stack([total, *losses.values()]).detach().float().tolist()
    return dict(zip(["loss", *losses], values, strict=True))
