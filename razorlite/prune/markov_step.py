"""Training that learns how many channels to keep."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from razorlite.core.config import Given
from razorlite.core.errors import BudgetError, ConfigError
from razorlite.core.ranges import NonNegative, PositiveShare, ShareBelowOne, Whole
from razorlite.core.registry import register
from razorlite.cost import FactoredCost, Limit, shown
from razorlite.engine.steps import Backward, Metrics, Step, StepFunction, plain_step
from razorlite.prune.markov import Chains, Gates, expected_cost
from razorlite.space import SandwichStep, SearchSpace, Subnet
from razorlite.structures import Batch, tensors_of


@register()
class MarkovStep(SandwichStep):
    """Learns the widths of a supernet in turns with its weights, by gradients.

    Each width is a Markov chain from its smallest value up (see `Chains`). Steps alternate:

    - the weights learn as in a `SandwichStep`, whose random paths are drawn by the chains;
    - the chains learn from the loss of the largest path whose channels are multiplied by the
      probabilities that they are there, plus `weight` times the log of how far the expected cost is
      from the budget, relative to it. The weights stay. The largest path runs first, so that it can
      teach in a `DistilledStep`.

    `target` is the subnet of the expected widths, which is evaluated and left in subnet.yaml. The
    chains' parameters are `step.*chains.*` in `param_options`.

    Args:
        space: of the model that is trained, of numbers alone.
        costs: of its points.
        ends: the largest and the smallest path.
        total_steps: optimiser steps of the training.
        budget: what the subnet may cost: a number, text such as "300M", "50%" of the largest, or
            the same as a share.
        kind: of cost.
        weight: of the budget's loss.
        tolerance: distance from the budget, as a share of it, within which that loss is 0.
        start: share of the training after which the chains learn.
        seed: of the paths.
        random_paths: how many paths besides the largest and the smallest.
        base_step: the step that trains each path.

    Raises:
        ConfigError: there is no such kind of cost, the training has no known length, or the space
            has other dimensions than numbers.
        BudgetError: no path costs so little or so much.

    DMCP: Differentiable Markov Channel Pruning, https://arxiv.org/abs/2005.03354, sections 3.2 and
    3.3, eq. 9 and 10.
    """

    adds_losses = True

    def __init__(
        self,
        space: Given[SearchSpace],
        *,
        costs: Given[FactoredCost],
        ends: Given[tuple[Subnet, Subnet]],
        total_steps: Given[int | None],
        budget: float | str,
        kind: str = "macs",
        weight: NonNegative = 0.1,
        tolerance: PositiveShare = 0.02,
        start: ShareBelowOne = 0.3,
        seed: Given[int] = 0,
        random_paths: Whole = 2,
        base_step: Given[Step | StepFunction] = plain_step,
    ) -> None:
        if not total_steps:
            raise ConfigError("needs a training of known length; set max_steps")
        self.costs, self.kind, self.budget = costs, kind, _budget(costs, kind, budget)
        self.weight, self.tolerance = weight, tolerance
        self.first = int(start * total_steps)
        self.chains = Chains(space)
        super().__init__(
            space, ends=ends, seed=seed, random_paths=random_paths, base_step=base_step
        )

    @cached_property
    def gates(self) -> Gates:
        """What multiplies channels by their probabilities."""
        return Gates(self.space)

    @property
    def target(self) -> Subnet:
        """Return the subnet of the widths that are nearest to the expected ones, and fit."""
        ranks = self.chains.nearest()
        while self._cost(ranks) > self.budget:
            ranks[self.chains.excess(ranks).argmax()] -= 1
        return self.space.decode(self.chains.point(ranks))

    def begin(self, step: int) -> None:
        """Tell the number of the optimiser step that comes, from 0."""
        self.learns_widths = step >= self.first and (step - self.first) % 2 == 1
        super().begin(step)

    def draw(self, rng: np.random.Generator) -> None:
        """Draw the paths between the largest and the smallest by the chains."""
        points = [self.chains.drawn(rng) for _ in range(self.random_paths)]
        self.paths = [*self._ends, *map(self.space.decode, points)]

    def __call__(self, model: nn.Module, batch: Batch, backward: Backward) -> Metrics:
        """Train the weights, or the chains.

        Returns:
            The metrics of the largest path, or of the one with the channels' probabilities; and the
            expected cost.
        """
        self.chains.to(tensors_of(batch.inputs)[0].device)
        if self.learns_widths:
            return self._learn_widths(model, batch, backward)
        metrics = super().__call__(model, batch, backward)
        with torch.no_grad():
            cost = expected_cost(self.costs, self.kind, self.chains.by_index())
        return {**metrics, f"expected_{self.kind}": cost}

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the chains' parameters, and what the step inside trains."""
        for name, parameter in self.chains.named():
            yield f"chains.{name}", parameter
        yield from super().named_parameters()

    def state_dict(self) -> dict[str, Any]:
        """Return the chains, and the state of the step inside."""
        return {**super().state_dict(), "chains": self.chains.named_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            CheckpointError: the chains are of other widths.
        """
        super().load_state_dict(state)
        self.chains.load_named(state.get("chains", {}))

    def _learn_widths(self, model: nn.Module, batch: Batch, backward: Backward) -> Metrics:
        self.space.select(self._ends[0])
        nothing = 0 * sum(x.sum() for x in self.chains.transitions)
        shares = self.chains.by_index()
        cost = expected_cost(self.costs, self.kind, shares)
        budget = self.weight * self._off(cost)
        with _still(model):
            self.base_step(model, batch, lambda loss: backward(loss + nothing))
            with self.gates.on(shares):
                metrics = self.base_step(model, batch, lambda loss: backward(loss + budget))
        return {**metrics, f"expected_{self.kind}": cost.detach()}

    def _off(self, cost: Tensor) -> Tensor:
        """Return the budget's loss: eq. 9, up to a constant, and 0 within the tolerance."""
        off = (cost / self.budget - 1).abs()
        return (off / self.tolerance).clamp(min=1).log()

    def _cost(self, ranks: np.ndarray) -> float:
        return float(self.costs.many(self.chains.point(ranks)[None])[self.kind][0])


def _budget(costs: FactoredCost, kind: str, budget: float | str) -> float:
    """Return the most allowed.

    Raises:
        ConfigError: there is no such kind of cost, or the amount cannot be read.
        BudgetError: it is out of reach.
    """
    if kind not in costs.names:
        raise ConfigError(f"kind {kind!r} is none of the costs {', '.join(costs.names)}")
    low, high = costs.bounds()[kind]
    limit = Limit.parse(kind, budget, whole=high, where="MarkovStep.budget")
    if not low <= limit.high <= high:
        raise BudgetError(
            f"MarkovStep.budget wants {kind} from {shown(low)} to {shown(high)}, what paths cost, "
            f"got {shown(limit.high)}"
        )
    return float(limit.high)


@contextmanager
def _still(model: nn.Module) -> Iterator[None]:
    """Let no weight get a gradient, for the time of a block."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
