"""Pruning while training: every few steps the least important channels go."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from razorlite.core.config import Given
from razorlite.core.ranges import Count
from razorlite.core.registry import register
from razorlite.cost import Constraint, Limit
from razorlite.engine.steps import Backward, Metrics, Step, StepFunction, WrappingStep, plain_step
from razorlite.prune.allocation import Ladder
from razorlite.prune.channels import Channels
from razorlite.prune.culprits import unit_masks
from razorlite.prune.data_importance import DataImportance
from razorlite.prune.goal import Goal
from razorlite.prune.per_cost import per_cost
from razorlite.prune.planning import Planner, by_group
from razorlite.prune.pruner import Pruner
from razorlite.space.subnet import Subnet

_log = logging.getLogger("razorlite")


@register()
class GradualStep(WrappingStep):
    """Masks the least important channel of all groups every few steps, until the budget is met.

    An importance of data is gathered from the very batches that are trained on, anew after each
    channel, and what a channel costs is that of the model as it is by then. A group of channels
    that go together (a multiple of `round_to`) goes at once, by its mean score. Once within the
    budget, nothing more goes. Masked channels have no influence on the others; the weights keep
    their shapes until the end.

    Args:
        channels: of the model that is trained; gets masks.
        pruner: importance, rounding and what must stay.
        goal: limits and floors.
        every: optimiser steps from one to the next.
        drop: how many go each time.
        base_step: the step inside.

    Group Fisher Pruning, https://arxiv.org/abs/2108.00708, algorithm 1.
    """

    def __init__(
        self,
        channels: Given[Channels],
        *,
        pruner: Given[Pruner],
        goal: Given[Goal],
        every: Count = 25,
        drop: Count = 1,
        base_step: Given[Step | StepFunction] = plain_step,
    ) -> None:
        super().__init__(base_step)
        self.channels, self.pruner, self.goal = channels, pruner, goal
        self.every, self.drop = every, drop
        self.kept = np.ones(channels.graph.size, dtype=bool)
        self._upper = Constraint(tuple(Limit(x.name, high=x.high) for x in goal.limits))
        graph = channels.graph
        equal = {group.name: torch.ones(group.size) for group in graph.prunable}
        planner = self._planner(equal)
        self._staying = planner.staying(channels.model, graph, channels.example)
        self._masks = channels.masks()

    @property
    def finished(self) -> bool:
        """Whether the model without the masked channels is within the budget."""
        costs = {n: np.array([x]) for n, x in self._cost.items()}
        return bool(self._upper.allows(costs)[0])

    def begin(self, step: int) -> None:
        """Tell the number of the optimiser step that comes, from 0; channels go before it."""
        super().begin(step)
        if step and step % self.every == 0:
            self._drop(self.drop)

    def __call__(self, model: nn.Module, batch: Any, backward: Backward) -> Metrics:
        """Run the step inside.

        Returns:
            Its metrics, and the share of the units that is kept.
        """
        importance = self.pruner.importance
        if isinstance(importance, DataImportance) and not self.finished:
            groups, step = self.channels.graph.prunable, self.base_step
            metrics = importance.accumulate(model, groups, batch, step=step, backward=backward)
        else:
            metrics = self.base_step(model, batch, backward)
        return {**metrics, "kept": float(self.kept.mean())}

    def subnet(self) -> Subnet:
        """Take the masks away, and return what is kept.

        What training has not come to goes now, by the scores at the end.

        """
        before = int(self.kept.sum())
        self._drop(len(self.kept))
        if before > self.kept.sum():
            _log.warning(
                "training ended before the budget was met: %d of %d channels go at once at its "
                "end; train longer, or lower `every` or raise `drop` of GradualStep",
                before - int(self.kept.sum()),
                len(self.kept) - int(self.kept.sum()),
            )
        self._masks.remove()
        graph = self.channels.graph
        return Subnet(
            channels=by_group(graph, self.kept),
            cost=self._cost,
            origin={"made_by": "prune", "groups": graph.fingerprint},
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the step inside, what is kept, and what was gathered."""
        state = {**super().state_dict(), "kept": torch.from_numpy(self.kept)}
        if isinstance(self.pruner.importance, DataImportance):
            state["importance"] = self.pruner.importance.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.kept = state["kept"].numpy().copy()
        if isinstance(self.pruner.importance, DataImportance):
            self.pruner.importance.load_state_dict(state["importance"])
        self._mask()

    @property
    def _cost(self) -> dict[str, int]:
        return self.channels.cost.of(self.kept, [limit.name for limit in self.goal.limits])

    def _drop(self, number: int) -> None:
        """Let so many channels, or groups of them that go together, go."""
        if self.finished:
            return
        scores = self.pruner.importance(self.channels.model, self.channels.graph.prunable)
        while number and not self.finished and (units := self._least(scores)) is not None:
            self.kept[units] = False
            number -= 1
        if isinstance(self.pruner.importance, DataImportance):
            self.pruner.importance.reset()
        self._mask()

    def _least(self, scores: Mapping[str, Tensor]) -> NDArray[np.int64] | None:
        """Return the units to go next; None where nothing more can go."""
        best, found = np.inf, None
        for x, count in zip(*self._ladders(scores), strict=True):
            place = x.rung(count)
            if place:
                score = float(x.scores[x.rungs[place - 1] : count].mean())
                if found is None or score < best:
                    best, found = score, x.units(x.rungs[place - 1], count)
        return found

    def _ladders(self, scores: Mapping[str, Tensor]) -> tuple[list[Ladder], list[int]]:
        """Return the sizes that each block can take, masked units last, and its present one."""
        graph = self.channels.graph
        masks = unit_masks(graph, self.kept)
        counts = [int(masks[g.name][list(b.units)].sum()) for g in graph.prunable for b in g.blocks]
        divided = per_cost(scores, self.channels, self.pruner.per, np.array(counts))
        gone = {
            n: x.masked_fill(torch.from_numpy(~masks[n]), -math.inf) for n, x in divided.items()
        }
        return self._planner(gone).ladders(graph, self._staying), counts

    def _planner(self, scores: Mapping[str, Tensor]) -> Planner:
        return Planner(
            scores=scores,
            limits=self.goal.limits,
            least=self.goal.floors,
            round_to=self.pruner.number,
            allocation="global",
            ignore=self.pruner.ignore,
        )

    def _mask(self) -> None:
        graph = self.channels.graph
        masks = unit_masks(graph, self.kept)
        self._masks.set({g.name: torch.from_numpy(masks[g.name]).float() for g in graph.prunable})
