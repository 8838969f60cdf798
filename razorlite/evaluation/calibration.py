"""Whether scores are probabilities, and how well they tell classes apart."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """Scores beside how often they were right, in bins of equal width from 0 to 1.

    Attributes:
        counts: (B,) how many scores are in each bin.
        scores: (B,) their means, NaN of empty bins.
        right: (B,) shares of them that were right, NaN of empty bins.
    """

    counts: NDArray[np.int64]
    scores: Values
    right: Values

    @property
    def error(self) -> float:
        """The expected calibration error, 0 to 1.

        Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, 2015; Guo et
        al., https://arxiv.org/abs/1706.04599, eq. 3.
        """
        filled = self.counts > 0
        gaps = np.abs(self.right - self.scores)[filled]
        return float((gaps * self.counts[filled]).sum() / max(1, self.counts.sum()))


def reliability(scores: Values, right: NDArray[np.bool_], bins: int = 10) -> Reliability:
    """Return how often scores were right.

    Args:
        scores: (N,) from 0 to 1; of a classifier, those of the most probable class.
        right: (N,).
        bins: how many, of equal width; the last one holds 1.
    """
    place = np.minimum((np.asarray(scores) * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = np.bincount(place, weights=scores, minlength=bins) / counts
        shares = np.bincount(place, weights=right, minlength=bins) / counts
    return Reliability(counts, means, shares)


@dataclass(frozen=True)
class Roc:
    """True against false positives as the score that is asked for falls.

    Attributes:
        false: (P,) shares of the others that are taken for the class, from 0 to 1.
        true: (P,) shares of the class that are found, from 0 to 1.
    """

    false: Values
    true: Values

    @property
    def area(self) -> float:
        """Chance that one of the class has a higher score than one of the others, ties half."""
        steps = np.diff(self.false)
        return float((steps * (self.true[1:] + self.true[:-1]) / 2).sum())


def roc(scores: Values, positive: NDArray[np.bool_]) -> Roc | None:
    """Return the ROC curve of (N,) scores, or None where all or none are positive.

    Args:
        scores: (N,) of one class.
        positive: (N,) which are of that class.

    Fawcett, An introduction to ROC analysis, 2006, algorithm 1.
    """
    if positive.all() or not positive.any():
        return None
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    true = np.cumsum(positive[order])[last] / positive.sum()
    false = np.cumsum(~positive[order])[last] / (~positive).sum()
    return Roc(np.append(0.0, false), np.append(0.0, true))
