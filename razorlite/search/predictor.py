"""A search that is guided by a predictor of scores."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import ndtr

from razorlite.core.ranges import Count
from razorlite.core.registry import register
from razorlite.search.candidates import Candidates
from razorlite.search.embedding import Embedding
from razorlite.search.gaussian import GaussianProcess
from razorlite.search.history import HistorySearcher

_FITTED = 150  # trials from which hyperparameters are chosen
_REFIT = 1 / 15  # share of new trials after which they are chosen anew
_EVERY = 40  # trials up to which they are chosen anew each time
_TOP = 5  # of the best, whose neighbours and mutants are in the pool
_MUTANTS = 60  # of each
_CHANGES = 2.5  # dimensions that a mutant draws anew, on average


@register()
class PredictorSearcher(HistorySearcher):
    """Proposes what a Gaussian process expects to improve most on the best so far.

    The process compares candidates by their values, their order and their costs (see
    `GaussianProcess`). The most promising is picked from a pool of allowed candidates: random ones,
    neighbours of the best and their mutants. In a batch, each pick is then taken to score as
    predicted, so that the next one lies elsewhere. What scores far below the others is drawn
    nearer, for how bad a bad candidate is does not matter.

    Expected improvement, https://doi.org/10.1023/A:1008306431147, equation 15; batches by the
    kriging believer, https://doi.org/10.1007/978-3-642-10701-6_6, algorithm 1.
    """

    def __init__(
        self,
        *,
        candidates: Candidates,
        max_trials: Count = 300,
        initial: Count = 10,
        batch_size: Count = 1,
        pool_size: Count = 400,
    ) -> None:
        """Keep the settings.

        Args:
            candidates: where points come from.
            max_trials: how many to propose in all.
            initial: random ones to begin with.
            batch_size: how many to propose at a time.
            pool_size: random candidates of a pool.

        Raises:
            ConfigError: a setting is out of range.
        """
        super().__init__(
            candidates,
            max_trials=max_trials,
            batch_size=batch_size,
            initial=initial,
            pool_size=pool_size,
        )
        self.initial, self.pool_size = initial, pool_size
        self._fitted = 0

    @cached_property
    def _process(self) -> GaussianProcess:
        """The model of the scores; costs that have to be measured are, when it is first asked."""
        return GaussianProcess(Embedding.of(self.candidates.space, self.candidates.feasible))

    def propose(self, count: int) -> list[np.ndarray]:
        """Give out up to `count` (D,) points: random ones, then the most promising."""
        if self.told < self.initial or len(self.history) < 2:
            return self.filled([], min(count, max(1, self.initial - self.told)))
        points, values = self.points, compressed([trial.values[0] for trial in self.history])
        self._fit(points, values)
        found: list[np.ndarray] = []
        pool = self._pool()
        while len(found) < count and len(pool):
            self._process.condition(points, values)
            gain, mean = self._gains(pool, points)
            best = int(gain.argmax())
            found += [pool[best]] if self.candidates.take(pool[best]) else []
            points, values = np.vstack([points, pool[best]]), np.append(values, mean[best])
            pool = np.delete(pool, best, axis=0)
        return self.filled(found, count)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON's values."""
        fit = {"fitted": self._fitted, "parameters": self._process.parameters.tolist()}
        return {**super().state_dict(), **fit}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self._fitted = state["fitted"]
        self._process.parameters = np.array(state["parameters"])

    def _fit(self, points: np.ndarray, values: np.ndarray) -> None:
        """Choose the hyperparameters anew where there are enough new trials."""
        count = len(points)
        if count < _EVERY or count - self._fitted >= _REFIT * count:
            some = np.unique(np.linspace(0, count - 1, _FITTED).round().astype(np.int64))
            self._process.fit(points[some], values[some])
            self._fitted = count

    def _gains(self, pool: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the expected improvement and the mean of (N, D) points, (N,) each."""
        mean, deviation = self._process.predict(pool)
        best = self._process.predict(known)[0].max()  # free of noise, as a score may be
        return expected_improvement(mean, deviation, best), mean

    def _pool(self) -> np.ndarray:
        """Return new and allowed points to choose from, (N, D), none of them given out."""
        values = np.array([trial.values[0] for trial in self.history])
        top = self.points[np.argsort(-values, kind="stable")[:_TOP]]
        near = [self.candidates.neighbours(point) for point in top]
        mutants = self.candidates.new(self._mutants(top))
        return np.unique(np.vstack([self.candidates.pool(self.pool_size), *near, mutants]), axis=0)

    def _mutants(self, top: np.ndarray) -> np.ndarray:
        """Return (N * M, D) points that differ from (N, D) ones by a few changes."""
        rng, space = self.candidates.rng, self.candidates.space
        parents = np.repeat(top, _MUTANTS, axis=0)
        fresh = space.random_indices(rng, len(parents))
        changed = rng.random(parents.shape) < _CHANGES / parents.shape[1]
        return np.where(changed, fresh, parents)


def expected_improvement(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    """Return by how much normal variables are expected to exceed `best`, where they do, (N,)."""
    off = (mean - best) / deviation
    density = np.exp(-0.5 * np.square(off)) / np.sqrt(2 * np.pi)
    improvement: np.ndarray = deviation * (off * ndtr(off) + density)
    return improvement


def compressed(values: list[float]) -> np.ndarray:
    """Return (N,) standardised values, those below one deviation drawn nearer by a logarithm."""
    for _ in range(2):
        standard = _standardised(np.asarray(values))
        tail = -1 - np.log(np.maximum(-standard, 1.0))
        values = np.where(standard < -1, tail, standard).tolist()
    return _standardised(np.asarray(values))


def _standardised(values: np.ndarray) -> np.ndarray:
    standard: np.ndarray = (values - values.mean()) / max(float(values.std()), 1e-12)
    return standard
