"""Sums of what parts take, brought to what whole models take in the runtime that is shipped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from razorlite.core.progress import progress
from razorlite.cost.factored import FactoredCost
from razorlite.cost.observing import Supernet
from razorlite.cost.timed import Timer

POINTS = 6  # whole models that are timed, the cheapest and the dearest among them


@dataclass(frozen=True)
class PowerLaw:
    """`scale * sum ** power`: positive and rising, however few milliseconds a sum is.

    What runs layer by layer spends more of a small model's time between the layers than a runtime
    of whole graphs does, so that times fall faster than sums.

    Attributes:
        scale: milliseconds of a model whose sum is one millisecond.
        power: not negative.
    """

    scale: float = 1.0
    power: float = 1.0

    def __call__(self, sums: np.ndarray) -> np.ndarray:
        """Map (N,) sums to (N,) milliseconds."""
        times: np.ndarray = self.scale * np.power(sums, self.power)
        return times

    @classmethod
    def fitted(cls, sums: np.ndarray, times: np.ndarray) -> PowerLaw:
        """Return the law nearest to positive times by their ratios, which does not fall."""
        x, y = np.log(sums), np.log(times)
        spread = x - x.mean()
        square = float((spread**2).sum())
        power = max(float((spread * y).sum()) / square if square else 0.0, 0.0)
        return cls(float(np.exp(y.mean() - power * x.mean())), power)


@dataclass(frozen=True)
class EndToEnd:
    """What whole models take by the sums of a table.

    Attributes:
        scale: of the power law.
        power: of the power law.
        tau: Kendall's rank correlation of sums and times; None where all are equal.
        times: table's sum and measured milliseconds of each model that was timed.
        conditions: what the times depend on.
    """

    scale: float
    power: float
    tau: float | None
    times: list[list[float]]
    conditions: Mapping[str, Any]


def end_to_end(space: Supernet, table: FactoredCost, timer: Timer) -> EndToEnd:
    """Time some of a space's models as they are shipped, in turns.

    Args:
        space: of a supernet; models are exported from it.
        table: of one kind of cost, in milliseconds.
        timer: times the models.

    Raises:
        ExportError: a model cannot be written for the timer's runtime.
    """
    [name] = table.names
    points = _points(space, table, name)
    shown = progress(points, "whole models made ready for timing", len(points))
    runs = {str(i): timer.opened(space.export(space.decode(p))) for i, p in enumerate(shown)}
    found = timer.in_turns(runs)
    sums = table.many(points)[name].astype(np.float64)
    times = np.array([median(found[str(i)]) for i in range(len(points))])
    law = PowerLaw.fitted(sums, times)
    pairs = [[round(a, 4), round(b, 4)] for a, b in zip(sums.tolist(), times.tolist(), strict=True)]
    return EndToEnd(law.scale, law.power, _tau(sums, times), pairs, dict(timer.conditions))


def _points(space: Supernet, table: FactoredCost, name: str) -> np.ndarray:
    """Return (P, D) different points: those of the ends, and some at random."""
    rng = np.random.default_rng(0)
    ends = [space.encode(space.resolve(end(name))) for end in (table.smallest, table.largest)]
    drawn = rng.integers(0, space.counts, size=(POINTS - 2, len(space.counts)))
    points: np.ndarray = np.unique(space.canonical(np.stack([*ends, *drawn])), axis=0)
    return points


def _tau(sums: np.ndarray, times: np.ndarray) -> float | None:
    from scipy.stats import kendalltau  # half a second that --help need not wait for

    tau = float(kendalltau(sums, times).statistic) if len(sums) > 1 else math.nan
    return None if math.isnan(tau) else tau
