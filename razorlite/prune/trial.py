"""Models compared on some batches, as they are before any fine-tuning."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from razorlite.core.distributed import all_reduce_mean
from razorlite.cost.count import evaluating
from razorlite.space.recalibration import kept_statistics, recalibrate

LossOf = Callable[[Any, Any], Tensor]


def last_loss(model: Any, batch: Any) -> Tensor:
    """Return the sum of `model.loss(batch.inputs, batch.targets)`, a 0-dim tensor.

    Of decoder layers that all learn, the last one's counts: names such as `d0.loss_cls` do not.
    """
    losses: Mapping[str, Tensor] = model.loss(batch.inputs, batch.targets)
    return torch.stack([v.float() for name, v in losses.items() if "." not in name]).sum()


class Trial:
    """Tells how much a model loses on some batches, and how useful its queries are.

    Statistics of batch norms are those of the same batches, as EagleEye has it: without that, the
    loss of a slim model says little of what fine-tuning will make of it. Weights are not changed.

    Args:
        batches: what the losses are of; their inputs are what norms are calibrated on.
        loss: of a model in evaluation mode and a batch; a 0-dim tensor.
        place: moves a model to the batches' device.
        context: what models run in, such as an autocast.

    EagleEye, https://arxiv.org/abs/2007.02491, section 3.4.
    """

    def __init__(
        self,
        batches: Sequence[Any],
        *,
        loss: LossOf = last_loss,
        place: Callable[[nn.Module], Any] = lambda model: model,
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.batches, self.place, self.context = batches, place, context
        self._loss = loss

    @torch.no_grad()
    def loss(self, model: nn.Module) -> float:
        """Return the mean loss over the batches, and over the processes of torchrun."""
        self.place(model)
        with self.context(), kept_statistics(model):
            recalibrate(model, [batch.inputs for batch in self.batches])
            with evaluating(model):
                losses = [self._loss(model, batch).double() for batch in self.batches]
        mean = float(all_reduce_mean(torch.stack(losses).mean()))
        return mean if math.isfinite(mean) else math.inf

    @torch.no_grad()
    def query_scores(self, model: Any) -> Tensor:
        """Return (Q,) means of the probability of each query's likeliest class."""
        self.place(model)
        with self.context(), evaluating(model):
            scores = [model.query_scores(batch.inputs) for batch in self.batches]
        return all_reduce_mean(torch.cat(scores).double().mean(0)).cpu()
