"""Importance that is gathered over batches, from losses and their gradients."""

import logging
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from razorlite.core.distributed import all_reduce_mean
from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count
from razorlite.engine.steps import Backward, Metrics, Step, StepFunction, plain_step
from razorlite.prune.importance import Importance, Scale
from razorlite.trace import ChannelGroup

_log = logging.getLogger("razorlite")
Values = Callable[[], dict[str, Tensor]]


class DataImportance(Importance):
    """Base of measures that need batches: `accumulate` each, then ask for the scores.

    Scores are means over the batches, and over the processes of torchrun. Gradients stay in the
    model as the training step leaves them, so that a step which trains can be watched.

    Attributes:
        degree: how values grow with the loss: 1 as the loss, 2 as its square.
    """

    degree: int

    def __init__(self, *, batches: Count = 10, scale: Scale = "none") -> None:
        """Keep the settings.

        Args:
            batches: how many training batches a command gathers from.
            scale: as for `Importance`.
        """
        super().__init__(scale=scale)
        self.batches = batches
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    @abstractmethod
    def watching(
        self, model: nn.Module, groups: Sequence[ChannelGroup], samples: int
    ) -> AbstractContextManager[Values]:
        """Watch forward and backward passes within a block.

        Args:
            model: what runs.
            groups: what to measure.
            samples: how many there are in the batch.

        Returns:
            A context that gives what returns the (size,) values of each group's units, for
            gradients as they were seen.
        """

    def accumulate(
        self,
        model: nn.Module,
        groups: Sequence[ChannelGroup],
        batch: Any,
        *,
        step: Step | StepFunction = plain_step,
        backward: Backward = torch.Tensor.backward,
    ) -> Metrics:
        """Run a training step on a batch, and add what it tells of the units.

        A batch with gradients that are not finite counts for nothing.

        Args:
            model: what runs, in the mode that it is in.
            groups: what to measure, the same each time.
            batch: has a length; what the step takes.
            step: computes losses and calls `backward`.
            backward: adds up gradients of a loss; it may multiply the loss first.

        Returns:
            The step's metrics.
        """
        scaled = _Scaled(backward)
        with self.watching(model, groups, len(batch)) as values:
            metrics = step(model, batch, scaled)
            self._add(values(), scaled.factor**self.degree)
        return metrics

    def unit_scores(self, model: nn.Module, group: ChannelGroup) -> Tensor:
        """Return the (size,) means over the batches; infinite where no gradient came.

        Raises:
            ConfigError: no batch was accumulated.
        """
        if group.name not in self._sums:
            raise ConfigError(
                f"{type(self).__name__} has seen no batch for {group.name}; call "
                f"accumulate(model, groups, batch) before planning"
            )
        total = self._sums[group.name]
        if not total.any():
            _log.warning("no gradient came to the channels of %s: all of them stay", group.name)
            return torch.full_like(total, math.inf)
        return total / self._count

    def state_dict(self) -> dict[str, Any]:
        """Return what was accumulated: the (size,) sums of each group, and how many batches."""
        return {"sums": {n: x.cpu() for n, x in self._sums.items()}, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._sums, self._count = dict(state["sums"]), int(state["count"])

    @torch.no_grad()
    def _add(self, values: Mapping[str, Tensor], factor: float) -> None:
        sizes = [len(x) for x in values.values()]
        joined = all_reduce_mean(torch.cat([x.double() for x in values.values()]) / factor)
        if not bool(joined.isfinite().all()):
            return
        for name, value in zip(values, joined.cpu().split(sizes), strict=True):
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1


class _Scaled:
    """Calls `backward`, and finds out what that multiplies the loss by.

    Attributes:
        factor: what the gradients have been multiplied by.
    """

    def __init__(self, backward: Backward) -> None:
        self._backward, self._factor = backward, torch.ones(())

    def __call__(self, loss: Tensor) -> None:
        """Add the gradients of a 0-dim loss."""
        if loss.requires_grad:
            loss.register_hook(self._keep)
        self._backward(loss)

    @property
    def factor(self) -> float:
        return float(self._factor)

    def _keep(self, gradient: Tensor) -> None:
        self._factor = gradient.detach()
