"""How far one order of candidates agrees with another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from razorlite.evaluation import interval
from razorlite.evaluation.resampling import Values

_DRAWS = 1000


@dataclass(frozen=True)
class RankCorrelation:
    """Kendall's tau of two scores of some candidates, tau-b.

    Attributes:
        tau: from -1, the opposite order, to 1, the same one; None where one side has no order.
        low: end of the interval that holds 95 % of draws of the candidates, with replacement.
        high: its other end.
        count: candidates.
    """

    tau: float | None
    low: float | None
    high: float | None
    count: int

    @classmethod
    def of(cls, first: Sequence[float], second: Sequence[float]) -> RankCorrelation:
        """Compare two scores of the same candidates.

        In a draw, pairs of a candidate with itself are ties on both sides, which tau-b leaves out.
        """
        both = np.array([first, second], dtype=np.float64)
        tau = kendall_tau(first, second)
        if tau is None:
            return cls(None, None, None, both.shape[1])
        draws = np.random.default_rng(0).integers(0, both.shape[1], (_DRAWS, both.shape[1]))
        found = _taus(both[0, draws], both[1, draws])
        low, high = interval(found[np.isfinite(found)])
        return cls(tau, low, high, both.shape[1])

    def __str__(self) -> str:
        if self.tau is None:
            return f"not known (of {self.count} subnets)"
        return f"{self.tau:.2f} (95 % of draws of the subnets {self.low:.2f} to {self.high:.2f})"


def kendall_tau(first: Sequence[float] = (), second: Sequence[float] = ()) -> float | None:
    """Return Kendall's rank correlation, tau-b; None where one side has no order.

    The treatment of ties in ranking problems, https://doi.org/10.1093/biomet/33.3.239, section 3.
    """
    rows = np.array([first, second], dtype=np.float64)
    tau = float(_taus(rows[:1], rows[1:])[0]) if len(first) > 1 else math.nan
    return None if math.isnan(tau) else tau


def _taus(first: Values, second: Values) -> Values:
    """Return tau-b of each of (B, N) rows, (B,); NaN where one side has no order."""
    left, right = np.triu_indices(first.shape[1], k=1)
    signs = [np.sign(rows[:, left] - rows[:, right]) for rows in (first, second)]
    ordered = [np.square(sign).sum(axis=1) for sign in signs]
    with np.errstate(invalid="ignore"):
        taus: Values = (signs[0] * signs[1]).sum(axis=1) / np.sqrt(ordered[0] * ordered[1])
    return taus
