"""Sums of what parts take, brought to what whole models take in the runtime that is shipped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from razorlite.cost.factored import FactoredCost
from razorlite.cost.observing import Supernet
from razorlite.cost.timed import Timer

POINTS = 6  # whole models that are timed, the cheapest and the dearest among them


@dataclass(frozen=True)
class EndToEnd:
    """A straight line from a table's sums to measured times.

    Attributes:
        offset: milliseconds that a model takes in any case.
        scale: milliseconds for one of the table's.
        tau: Kendall's rank correlation of sums and times; None where all are equal.
        times: table's sum and measured milliseconds of each model that was timed.
        conditions: what the times depend on.
    """

    offset: float
    scale: float
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
    runs = {str(i): timer.opened(space.export(space.decode(p))) for i, p in enumerate(points)}
    found = timer.in_turns(runs)
    sums = table.many(points)[name].astype(np.float64)
    times = np.array([median(found[str(i)]) for i in range(len(points))])
    offset, scale = _line(sums, times)
    pairs = [[round(a, 4), round(b, 4)] for a, b in zip(sums.tolist(), times.tolist(), strict=True)]
    return EndToEnd(offset, scale, _tau(sums, times), pairs, dict(timer.conditions))


def _points(space: Supernet, table: FactoredCost, name: str) -> np.ndarray:
    """Return (P, D) different points: those of the ends, and some at random."""
    rng = np.random.default_rng(0)
    ends = [space.encode(space.resolve(end(name))) for end in (table.smallest, table.largest)]
    drawn = rng.integers(0, space.counts, size=(POINTS - 2, len(space.counts)))
    points: np.ndarray = np.unique(space.canonical(np.stack([*ends, *drawn])), axis=0)
    return points


def _line(sums: np.ndarray, times: np.ndarray) -> tuple[float, float]:
    """Return offset and slope of the nearest line that does not fall; the mean where it would."""
    spread = sums - sums.mean()
    square = float((spread**2).sum())
    slope = float((spread * times).sum()) / square if square else 0.0
    slope = max(slope, 0.0)
    return float(times.mean() - slope * sums.mean()), slope


def _tau(sums: np.ndarray, times: np.ndarray) -> float | None:
    from scipy.stats import kendalltau  # half a second that --help need not wait for

    tau = float(kendalltau(sums, times).statistic) if len(sums) > 1 else math.nan
    return None if math.isnan(tau) else tau
