"""Learning-rate factors: pure functions of the step, and the blocks that configure them.

Steps count from 0; a factor multiplies each parameter group's own learning rate.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from razorlite.core.ranges import (
    Milestones,
    NonNegative,
    Positive,
    Range,
    Share,
    ShareBelowOne,
    Whole,
    checked,
)
from razorlite.core.registry import register


def linear_warmup(step: int, steps: int, start: float) -> float:
    """Rise linearly from `start` at step 0 to 1 at step `steps`."""
    return 1.0 if step >= steps else start + (1 - start) * step / steps


def cosine(progress: float, floor: float = 0.0) -> float:
    """Fall from 1 to `floor` along half a cosine as progress goes from 0 to 1.

    SGDR, https://arxiv.org/abs/1608.03983, eq. 5, without restarts.
    """
    return floor + (1 - floor) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def poly(progress: float, power: float = 1.0, floor: float = 0.0) -> float:
    """Fall from 1 to `floor` as (1 - progress) ** power."""
    factor: float = floor + (1 - floor) * (1 - min(1.0, progress)) ** power
    return factor


def multi_step(step: int, milestones: Sequence[float], gamma: float) -> float:
    """Multiply by `gamma` at each milestone."""
    return gamma ** sum(step >= milestone for milestone in milestones)


class Schedule(ABC):
    """A learning-rate factor at each step of a run."""

    @abstractmethod
    def factor(self, step: int, total: int, epoch_steps: float = 1) -> float:
        """Return the factor.

        Args:
            step: steps done before this one, 0 to total - 1.
            total: steps of the whole run.
            epoch_steps: steps in an epoch, for milestones in epochs; need not be whole.
        """


@checked
@dataclass(frozen=True, kw_only=True)
class _WarmedUp(Schedule):
    """A schedule that starts with a linear rise.

    Attributes:
        warmup_steps: length of the rise.
        warmup_factor: factor at step 0.
    """

    warmup_steps: Whole = 0
    warmup_factor: Share = 0.001

    def factor(self, step: int, total: int, epoch_steps: float = 1) -> float:
        warmup = linear_warmup(step, self.warmup_steps, self.warmup_factor)
        return warmup * self.main(step, total, epoch_steps)

    def main(self, step: int, total: int, epoch_steps: float) -> float:
        """Return the factor without the warm-up's."""
        return 1.0

    def progress(self, step: int, total: int) -> float:
        """Return how much of the steps after the warm-up is done; 0 at its end, 1 at `total`."""
        return max(0, step - self.warmup_steps) / max(1, total - self.warmup_steps)


@register()
@dataclass(frozen=True, kw_only=True)
class Constant(_WarmedUp):
    """The full learning rate after the warm-up."""


@register()
@dataclass(frozen=True, kw_only=True)
class Cosine(_WarmedUp):
    """Half a cosine from the end of the warm-up to the end of the run.

    Attributes:
        min_factor: factor at the end.
    """

    min_factor: Share = 0.0

    def main(self, step: int, total: int, epoch_steps: float) -> float:
        return cosine(self.progress(step, total), self.min_factor)


@register()
@dataclass(frozen=True, kw_only=True)
class FlatCosine(_WarmedUp):
    """The full learning rate at first, half a cosine then (RTMDet's schedule).

    Attributes:
        flat: share of the run, in [0, 1), at which the cosine starts.
        min_factor: factor at the end.
    """

    flat: ShareBelowOne = 0.5
    min_factor: Share = 0.05

    def main(self, step: int, total: int, epoch_steps: float) -> float:
        start = max(self.flat * total, self.warmup_steps)
        return cosine(max(0.0, step - start) / max(1.0, total - start), self.min_factor)


@register()
@dataclass(frozen=True, kw_only=True)
class Poly(_WarmedUp):
    """(1 - progress) ** power from the end of the warm-up; power 1 is linear.

    Attributes:
        power: the exponent.
        min_factor: factor at the end.
    """

    power: NonNegative = 1.0
    min_factor: Share = 0.0

    def main(self, step: int, total: int, epoch_steps: float) -> float:
        return poly(self.progress(step, total), self.power, self.min_factor)


@register()
@dataclass(frozen=True, kw_only=True)
class MultiStep(_WarmedUp):
    """Multiply by `gamma` at each milestone.

    Attributes:
        milestones: rising, in `unit`s, from the start of the run.
        gamma: what a milestone multiplies by.
        unit: what milestones count.
    """

    milestones: Milestones
    gamma: Positive = 0.1
    unit: Literal["epoch", "step"] = "epoch"

    def main(self, step: int, total: int, epoch_steps: float) -> float:
        scale = epoch_steps if self.unit == "epoch" else 1
        return multi_step(step, [m * scale for m in self.milestones], self.gamma)


@register()
@dataclass(frozen=True, kw_only=True)
class OneCycle(Schedule):
    """Up along half a cosine, and down to almost nothing.

    Super-convergence, https://arxiv.org/abs/1708.07120.

    Attributes:
        rise: share of the run, in (0, 1), that the rise takes.
        start_factor: factor at step 0.
        min_factor: factor at the end.
    """

    rise: Annotated[float, Range(above=0, below=1)] = 0.3
    start_factor: Share = 0.04
    min_factor: Share = 4e-6

    def factor(self, step: int, total: int, epoch_steps: float = 1) -> float:
        top = self.rise * total
        if step < top:
            return cosine(1 - step / top, self.start_factor)
        return cosine((step - top) / max(1.0, total - top), self.min_factor)
