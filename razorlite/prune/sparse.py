"""Sparse training: a penalty that draws whole channels to zero before they are pruned."""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from razorlite.core.config import Given
from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Positive
from razorlite.core.registry import register
from razorlite.engine.steps import Backward, Metrics, Step, StepFunction, WrappingStep, plain_step
from razorlite.prune._unit_weights import Counted, is_scale, rows_of
from razorlite.prune.channels import Channels
from razorlite.trace import ChannelGroup

_EPS = 1e-12  # keeps the gradient of a root finite where a unit is zero


@register()
class SparseStep(WrappingStep):
    """Adds a penalty on the channels that may go to the losses of another step.

    Args:
        channels: of the model that is trained.
        weight: what the penalty is multiplied by.
        penalty: "norm" is the sum of the norms' absolute scales (network slimming,
            https://arxiv.org/abs/1708.06519, eq. 1); "group" the group lasso, the sum over units of
            the root of their number of weights times the Euclidean norm of all weights that make
            or read them (https://arxiv.org/abs/1608.03665, eq. 2, on whole channel groups).
        base_step: the step inside.

    Raises:
        ConfigError: there is no norm to penalise.
    """

    adds_losses = True

    def __init__(
        self,
        channels: Given[Channels],
        *,
        weight: Positive = 1e-4,
        penalty: Literal["norm", "group"] = "norm",
        base_step: Given[Step | StepFunction] = plain_step,
    ) -> None:
        super().__init__(base_step)
        self.weight, self.groups = weight, channels.graph.prunable
        self._penalty = _scales if penalty == "norm" else _lasso
        if not list(self._penalty(channels.model, self.groups)):
            raise ConfigError(
                "penalises the scales of norms, and no channel that may go passes one; take "
                "penalty: group"
            )

    def __call__(self, model: nn.Module, batch: Any, backward: Backward) -> Metrics:
        """Run the step inside, then add the gradients of the penalty.

        Returns:
            The metrics of the step inside, and the penalty before its weight.
        """
        metrics = self.base_step(model, batch, backward)
        penalty = torch.stack(list(self._penalty(model, self.groups))).sum()
        backward(self.weight * penalty)
        return {**metrics, "penalty": penalty.detach()}


def _scales(model: nn.Module, groups: tuple[ChannelGroup, ...]) -> Iterator[Tensor]:
    """Yield the sum of each norm's absolute scales, a norm of several groups once."""
    members = {member.key: member for group in groups for member in group.members}
    for member in members.values():
        weight = getattr(model.get_submodule(member.module), "weight", None)
        if not member.bare and weight is not None and is_scale(weight, member):
            yield weight.float().abs().sum()


def _lasso(model: nn.Module, groups: tuple[ChannelGroup, ...]) -> Iterator[Tensor]:
    """Yield the penalty of each group."""
    counted = Counted()
    for group in groups:
        squares, numbers = torch.zeros(group.size), torch.zeros(group.size)
        for member in group.members:
            weight = counted.weight(model, member)
            if weight is not None:
                index = torch.tensor(member.index, device=weight.device)
                rows = rows_of(model, member, weight.float())[index >= 0]
                squares, numbers = squares.to(weight.device), numbers.to(weight.device)
                squares = squares.index_add(0, index[index >= 0], rows.square().sum(1))
                ones = torch.full((len(rows),), float(rows.shape[1]), device=weight.device)
                numbers = numbers.index_add(0, index[index >= 0], ones)
        yield (numbers.sqrt() * (squares + _EPS).sqrt()).sum()
