"""A range test of the learning rate: a short training whose rate grows, and its losses."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from torch import nn

from razorlite.core.distributed import all_reduce_mean
from razorlite.core.errors import ConfigError
from razorlite.core.progress import progress
from razorlite.engine.config import TrainConfig
from razorlite.engine.exchange import broadcast_tensors
from razorlite.engine.optim import parameters_of_step
from razorlite.engine.steps import Step
from razorlite.engine.update import Update, build_update

_DIVERGED = 4.0  # times the lowest smoothed loss
_SETTLED = 5  # steps before a rising loss ends the test


@dataclass(frozen=True)
class RangeTest:
    """The losses of a training whose learning rate grows from step to step.

    Attributes:
        rates: learning rate of each step, rising by one factor.
        losses: of each step, before it moves the weights; as many.
        diverged: whether the loss ended the test before the last rate.
        width: steps over which a loss counts in the smoothed ones, to 1/e.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    diverged: bool = False
    width: float = 6.0

    @cached_property
    def smoothed(self) -> tuple[float, ...]:
        """The losses smoothed on both sides, so that no step is shown too late.

        A loss above all of the first `width` steps counts as the highest of these: how far it runs
        away would otherwise hide that it fell just before.
        """
        highest = max(self.losses[: math.ceil(self.width) + 1], default=math.inf)
        losses = [min(loss, highest) for loss in self.losses]
        return tuple(_smooth(losses, at, self.width) for at in range(len(losses)))

    @property
    def lowest(self) -> float | None:
        """The rate at the lowest smoothed loss; None if no later loss is below the first."""
        at = self._lowest
        return self.rates[at] if at else None

    @property
    def suggestion(self) -> float | None:
        """The rate where the smoothed loss falls fastest; None if it never falls.

        The slope is that of the loss against the logarithm of the rate, before the lowest loss.
        """
        slopes = [after - before for before, after in pairwise(self.smoothed[: self._lowest + 1])]
        if not slopes or min(slopes) >= 0:
            return None
        at = slopes.index(min(slopes))
        return math.sqrt(self.rates[at] * self.rates[at + 1])

    @property
    def _lowest(self) -> int:
        return self.smoothed.index(min(self.smoothed)) if self.losses else 0

    def to_dict(self) -> dict[str, Any]:
        """Return all as plain values."""
        return {
            "suggestion": self.suggestion,
            "lowest": self.lowest,
            "diverged": self.diverged,
            "rates": list(self.rates),
            "losses": list(self.losses),
            "smoothed": list(self.smoothed),
        }


def range_test(
    *,
    model: nn.Module,
    step: Step,
    loader: Any,
    config: TrainConfig,
    rates: Sequence[float],
) -> RangeTest:
    """Train while the learning rate grows exponentially, and note the losses.

    Each step is one of training: precision, accumulation, clipping and the multipliers of
    `param_options` are those of the configuration; its schedule and its own rate are not used. It
    ends early where a loss is not finite, or the smoothed one is four times the lowest. The model
    and the step are changed: give copies. All ranks call it, and get the same.

    Cyclical learning rates, https://arxiv.org/abs/1506.01186, section 3.3.

    Args:
        model: to train, on its device.
        step: batch to gradients and metrics.
        loader: yields batches, epoch after epoch.
        config: how to train.
        rates: learning rate of each step, see `growing`.

    Raises:
        TrainingError: the training step gave no parameter a gradient.
    """
    update = build_update(model, config, step)
    broadcast_tensors([*model.parameters(), *model.buffers(), *parameters_of_step(step).values()])
    batches = _endless(loader)
    model.train()
    losses: list[float] = []
    trailing: list[float] = []
    width, diverged = len(rates) / 16, False
    for number, rate in enumerate(progress(rates, "steps of the range test", len(rates))):
        loss = _one_step(update, step, model, batches, config.accumulate, number, rate)
        if not math.isfinite(loss):
            diverged = True
            break
        losses.append(loss)
        trailing.append(_smooth(losses, number, width))
        if loss > 0 and _has_diverged(trailing):
            diverged = number < len(rates) - 1
            break
    return RangeTest(tuple(rates[: len(losses)]), tuple(losses), diverged, width)


def growing(lowest: float, highest: float, steps: int) -> list[float]:
    """Return rates from `lowest` to `highest`, each the one before times the same factor.

    Raises:
        ConfigError: they do not rise, or are fewer than 10.
    """
    if not 0 < lowest < highest < math.inf or steps < 10:
        raise ConfigError(
            f"a range test wants 0 < lowest < highest and at least 10 steps, got {lowest:g}, "
            f"{highest:g} and {steps}"
        )
    return [lowest * (highest / lowest) ** (i / (steps - 1)) for i in range(steps)]


def _one_step(
    update: Update,
    step: Step,
    model: nn.Module,
    batches: Iterator[Any],
    count: int,
    number: int,
    rate: float,
) -> float:
    """Move the weights once; return the loss before, the mean over all ranks."""
    for group in update.optimizer.param_groups:
        group["lr"] = rate * group["lr_mult"]
    step.begin(number)
    metrics, _ = update.gradients(step, model, batches, count)
    finite, _ = update.prepare(metrics, stop=False)
    loss = float(all_reduce_mean(update.loss))
    if not finite:
        return math.nan
    update.apply()
    return loss


def _endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def _smooth(losses: Sequence[float], at: int, width: float) -> float:
    """Return the mean of all losses, weighted by exp(-|distance| / width)."""
    weights = [math.exp(-abs(i - at) / width) for i in range(len(losses))]
    return sum(w * x for w, x in zip(weights, losses, strict=True)) / sum(weights)


def _has_diverged(trailing: Sequence[float]) -> bool:
    """Return whether the last loss, smoothed over those before it, is far above the lowest one."""
    return len(trailing) > _SETTLED and trailing[-1] > _DIVERGED * min(trailing) > 0
