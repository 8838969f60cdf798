"""Steps of supernets: every choice alike, costs alike, or ever more of the space."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from torch import nn

from razorlite.core.config import Given
from razorlite.core.errors import ConfigError
from razorlite.core.ranges import PositiveShare
from razorlite.core.registry import register
from razorlite.engine.steps import Backward, Metrics, Step, StepFunction, plain_step
from razorlite.space.conditions import Points
from razorlite.space.search_space import SearchSpace
from razorlite.space.step import PathStep, SinglePathStep
from razorlite.space.subnet import Subnet

_TRIES = 500  # draws for one path of a window


class Costs(Protocol):
    """What paths cost; `razorlite.cost.CostModel` is one."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def many(self, points: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return the costs of (N, D) points."""

    def bounds(self) -> Mapping[str, tuple[int | float, int | float]]:
        """Return the least and the greatest of each kind of cost."""


@register()
class FairStep(PathStep):
    """Trains as many paths on each batch as a dimension has values: each value once.

    The gradients of the paths add up, so that all choices have had equally many when the weights
    move. A dimension with fewer values than another repeats some, other ones each time.

    Args:
        space: of the model that is trained.
        seed: of the paths.
        base_step: the step that trains each path.

    FairNAS, https://arxiv.org/abs/1907.01845, algorithm 1.
    """

    largest_first = False

    def draw(self, rng: np.random.Generator) -> None:
        """Draw a permutation of each dimension's values; paths are their columns."""
        most = max(self.space.counts, default=1)
        columns = [np.resize(rng.permutation(count), most) for count in self.space.counts.tolist()]
        points = np.array(columns, dtype=np.int64).reshape(-1, most).T
        self.paths = [self.space.decode(point) for point in points]

    def __call__(self, model: nn.Module, batch: Any, backward: Backward) -> Metrics:
        """Run the base step on each path.

        Returns:
            The metrics of the last path.
        """
        for path in self.paths:
            self.space.select(path)
            metrics = self.base_step(model, batch, backward)
        return metrics


@register()
class WindowStep(SinglePathStep):
    """Trains one path whose MACs lie in a window, drawn anew for each optimiser step.

    The window is drawn uniformly from the range of the space, so that cheap and costly paths, of
    which there are few, are trained as often as those in the middle.

    Args:
        space: of the model that is trained.
        costs: what paths cost.
        ends: the largest and the smallest path.
        seed: of the paths.
        width: of a window, as a share of the range between the cheapest and the costliest path.
        kind: of cost.
        base_step: the step that trains the path.

    Raises:
        ConfigError: there is no such kind of cost.

    Single Path One-Shot NAS, https://arxiv.org/abs/1904.00420, section 3.3 and appendix.
    """

    def __init__(
        self,
        space: Given[SearchSpace],
        *,
        costs: Given[Costs],
        ends: Given[tuple[Subnet, Subnet]],
        seed: Given[int] = 0,
        width: PositiveShare = 0.05,
        kind: str = "macs",
        base_step: Given[Step | StepFunction] = plain_step,
    ) -> None:
        if kind not in costs.names:
            raise ConfigError(f"kind {kind!r} is none of the costs {', '.join(costs.names)}")
        self.costs, self.width, self.kind = costs, width, kind
        self._ends = np.stack([space.encode(space.resolve(end)) for end in ends])
        super().__init__(space, seed=seed, base_step=base_step)

    def draw(self, rng: np.random.Generator) -> None:
        """Draw a window, and of the paths in it one; the nearest to it where none is found."""
        low, high = (float(end) for end in self.costs.bounds()[self.kind])
        span = self.width * (high - low)
        start = rng.uniform(low, high - span)
        points = self._points(rng)
        off = np.abs(self.costs.many(points)[self.kind] - (start + span / 2))
        inside = np.flatnonzero(off <= span / 2)
        chosen = rng.choice(inside) if len(inside) else int(off.argmin())
        self.path = self.space.decode(points[chosen])

    def _points(self, rng: np.random.Generator) -> Points:
        """Return (N, D) random points, each with a random share of values from one of the ends.

        Of many dimensions, uniform points alone all cost about the same.
        """
        points = self.space.random_indices(rng, _TRIES)
        taken = rng.random(points.shape) < rng.uniform(-0.5, 1, (_TRIES, 1))  # a third is uniform
        end = self._ends[rng.integers(0, 2, _TRIES)]
        return self.space.canonical(np.where(taken, end, points))


@register()
class ProgressiveStep(SinglePathStep):
    """Trains one path of a space that grows from the largest path to all of it.

    Each dimension opens its values one by one, those first that it lists nearest to the largest
    path's; all are open after `until` of the training.

    Args:
        space: of the model that is trained.
        ends: the largest and the smallest path.
        total_steps: optimiser steps of the training.
        seed: of the paths.
        until: share of the training after which the whole space is open.
        base_step: the step that trains the path.

    Raises:
        ConfigError: it is not known how many steps the training has.

    Progressive shrinking, Once-for-All, https://arxiv.org/abs/1908.09791, section 3.3, without its
    distillation; for that put a `DistilledStep` around it.
    """

    def __init__(
        self,
        space: Given[SearchSpace],
        *,
        ends: Given[tuple[Subnet, Subnet]],
        total_steps: Given[int | None],
        seed: Given[int] = 0,
        until: PositiveShare = 0.7,
        base_step: Given[Step | StepFunction] = plain_step,
    ) -> None:
        if not total_steps:
            raise ConfigError("needs a training of known length; set max_steps")
        self.total_steps, self.until = total_steps, until
        self._largest = space.encode(space.resolve(ends[0]))
        self._step = 0
        super().__init__(space, seed=seed, base_step=base_step)

    def begin(self, step: int) -> None:
        """Tell the number of the optimiser step that comes, from 0."""
        self._step = step
        super().begin(step)

    def draw(self, rng: np.random.Generator) -> None:
        """Draw one path among the values that are open."""
        share = min(1.0, self._step / (self.until * self.total_steps))
        point = [
            int(rng.choice(self._open(count, first, share)))
            for count, first in zip(self.space.counts.tolist(), self._largest, strict=True)
        ]
        self.path = self.space.decode(point)

    @staticmethod
    def _open(count: int, first: int, share: float) -> np.ndarray:
        """Return the values that are open, those nearest to the largest path's first."""
        order = np.argsort(np.abs(np.arange(count) - first), kind="stable")
        return order[: 1 + int(share * (count - 1) + 1e-9)]
