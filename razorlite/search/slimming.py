"""Greedy slimming: from the largest point down, each time where it hurts least."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count
from razorlite.core.registry import register, suggestion
from razorlite.cost import Constraint, Limit
from razorlite.search.candidates import Candidates
from razorlite.search.feasible import Feasible
from razorlite.search.searcher import Searcher
from razorlite.search.trial import Trial


@register()
class GreedySlimming(Searcher):
    """Walks down from the largest point, each time to the best of those a step smaller.

    A step takes one dimension to its next smaller value; those of words are ordered by their costs.
    All steps that are possible are one batch, and are scored though they may cost more than is
    allowed: such trials are on the way, none of them is the result. The walk ends at the first
    point that meets the constraint; where this has a lower end (`macs: [25%, 50%]`), and where
    there is none, as far down as it can go, so that every budget on the way has its subnet.

    AutoSlim, https://arxiv.org/abs/1903.11728, section 3.3, on a supernet that was trained by
    `SandwichStep` and taught by its largest path.
    """

    def __init__(
        self, *, candidates: Candidates, per: str | None = None, at_once: Count = 1
    ) -> None:
        """Order the values of each dimension.

        Args:
            candidates: the space, its costs and the constraint.
            per: a kind of cost, such as macs: the step is taken that loses least of the objective
                for each unit of it that is saved. By default the one that loses least, as in the
                paper.
            at_once: how many dimensions take a step at a time, the best ones: fewer evaluations.

        Raises:
            ConfigError: there is no such kind of cost, or values are words and have no costs.
        """
        super().__init__(candidates, per=per, at_once=at_once)
        self.per, self.at_once = per, at_once
        names = candidates.feasible.names
        if per is not None and per not in names:
            raise ConfigError(
                f"GreedySlimming.per wants one of the costs {', '.join(names) or '(none known)'}, "
                f"got {per!r}{suggestion(per, names)}"
            )
        self._order = _ordered(candidates)
        last = np.array([order[-1] for order in self._order], dtype=np.int64)
        self._base: np.ndarray = candidates.space.canonical(last[None])[0]
        self._value: float | None = None  # of the base, where it was scored

    @cached_property
    def tried(self) -> Feasible:
        """What is scored: all that is not below a lower end of the constraint."""
        limits = self.candidates.constraint.limits
        lower = tuple(Limit(limit.name, limit.low) for limit in limits)
        return Feasible(self.candidates.table, Constraint(lower))

    def ask(self) -> np.ndarray:
        """Return the next batch, (N, D) points; none when the search is over."""
        steps = self._steps()[1]
        base = [] if self._base in self.candidates.seen else [self._base]
        if not len(steps) and not self.candidates.allowed(self._base[None])[0] and base:
            raise self.candidates.none_found()
        found = self.candidates.stacked([*base, *steps])
        for point in found:
            self.candidates.seen.add(point)
        return found

    def tell(self, trials: Sequence[Trial]) -> None:
        """Take the best steps."""
        space = self.candidates.space
        known = {space.encode(t.subnet).tobytes(): t.values[0] for t in trials if t.values}
        dimensions, steps = self._steps()
        values = np.array([known.get(step.tobytes(), -math.inf) for step in steps])
        own = known.get(self._base.tobytes(), self._value)
        order = np.argsort(self._losses(own, values, steps), kind="stable")
        for count in range(min(self.at_once, len(order)), 0, -1):
            base = self._stepped(dimensions[order[:count]])
            if self.tried(base[None])[0]:
                self._base, self._value = base, known.get(base.tobytes())
                return
        self._value = own

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON's values."""
        return {**super().state_dict(), "base": self._base.tolist(), "value": self._value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self._base = np.array(state["base"], dtype=np.int64)
        self._value = state["value"]

    def _steps(self) -> tuple[np.ndarray, np.ndarray]:
        """Return which of D dimensions can take a step, (K,), and the (K, D) points behind it."""
        none = np.zeros(0, dtype=np.int64)
        if self._is_there():
            return none, self.candidates.stacked([])
        steps = np.stack([self._stepped(np.array([d])) for d in range(len(self._base))])
        usable = (steps != self._base).any(axis=1) & self.tried(steps)
        return np.flatnonzero(usable), steps[usable]

    def _is_there(self) -> bool:
        """Return whether the base meets a constraint that has no lower end."""
        limits = self.candidates.constraint.limits
        ends = bool(limits) and not any(limit.low for limit in limits)
        return ends and bool(self.candidates.allowed(self._base[None])[0])

    def _stepped(self, dimensions: np.ndarray) -> np.ndarray:
        """Return the base with some dimensions a value smaller, where there is a smaller one."""
        point = self._base.copy()
        for d in dimensions:
            order = self._order[d]
            point[d] = order[max(0, order.index(point[d]) - 1)]
        found: np.ndarray = self.candidates.space.canonical(point[None])[0]
        return found

    def _losses(self, own: float | None, values: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return what each of K steps loses, (K,): for each unit of `per` that it saves."""
        if self.per is None or not len(steps):
            losses: np.ndarray = -values
            return losses
        scored = values[np.isfinite(values)]
        before = own if own is not None else scored.max(initial=-math.inf)
        costs = self.tried.costs(np.concatenate([self._base[None], steps]))[self.per]
        saved = (costs[0] - costs[1:]).astype(np.float64)
        lost = np.where(np.isfinite(values), before - values, math.inf)
        each: np.ndarray = np.full(len(steps), math.inf)
        np.divide(lost, saved, out=each, where=saved > 0)
        return each


def _ordered(candidates: Candidates) -> list[list[int]]:
    """Return for each dimension the numbers of its values, from small to large."""
    space = candidates.space
    orders = []
    for number, dimension in enumerate(space.dimensions):
        sizes = dimension.values
        if not dimension.numeric:
            sizes = tuple(_costs(candidates, number, dimension.name))
        orders.append(sorted(range(len(sizes)), key=lambda i: float(sizes[i])))
    return orders


def _costs(candidates: Candidates, number: int, name: str) -> Sequence[float]:
    """Return the first kind of cost of each value of a dimension, with the first of all others."""
    names = candidates.feasible.names
    if not names:
        raise ConfigError(
            f"GreedySlimming goes to smaller values, and those of {name!r} are words; give a cost "
            f"table to order them by, or use another searcher"
        )
    points = np.zeros((int(candidates.space.counts[number]), len(candidates.space.counts)), int)
    points[:, number] = np.arange(len(points))
    found: Sequence[float] = candidates.feasible.costs(points)[names[0]].tolist()
    return found
