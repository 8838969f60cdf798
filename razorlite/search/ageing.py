"""Evolution in which candidates die of age."""

from __future__ import annotations

import numpy as np

from razorlite.core.ranges import Count
from razorlite.core.registry import register
from razorlite.search.candidates import Candidates
from razorlite.search.history import HistorySearcher


@register()
class AgeingEvolutionSearcher(HistorySearcher):
    """Mutates the best of some random members of a population; the oldest member makes room.

    A mutation gives one dimension another value. Age, not score, decides who leaves, so that a
    candidate that was lucky once does not stay for ever.

    Regularized Evolution, https://arxiv.org/abs/1802.01548, algorithm 1.
    """

    def __init__(
        self,
        *,
        candidates: Candidates,
        max_trials: Count = 1000,
        population_size: Count = 100,
        sample_size: Count = 25,
        batch_size: Count = 1,
    ) -> None:
        """Keep the settings; population and sample are the paper's.

        Args:
            candidates: where points come from.
            max_trials: how many to propose in all.
            population_size: how many of the latest may be parents; as many are random at first.
            sample_size: of how many of them, drawn with repetition, the best is a parent.
            batch_size: how many to propose at a time.

        Raises:
            ConfigError: a setting is out of range.
        """
        super().__init__(
            candidates,
            max_trials=max_trials,
            batch_size=batch_size,
            population_size=population_size,
            sample_size=sample_size,
        )
        self.population_size, self.sample_size = population_size, sample_size

    def propose(self, count: int) -> list[np.ndarray]:
        """Give out up to `count` (D,) points: random ones, then children."""
        missing = self.population_size - self.told
        if missing > 0 or not self.history:
            return self.filled([], min(count, max(missing, 1)))
        children = [self._child() for _ in range(count)]
        return self.filled([child for child in children if child is not None], count)

    def _child(self) -> np.ndarray | None:
        """Give out a new neighbour of a parent; None if it has none that is allowed."""
        return self.candidates.mutated(self._parent())

    def _parent(self) -> np.ndarray:
        """Return the best of a random sample, of equal ones the latest."""
        alive = range(max(0, len(self.history) - self.population_size), len(self.history))
        sample = self.candidates.rng.choice(alive, self.sample_size)
        best = max(sample.tolist(), key=lambda i: (self.history[i].values[0], i))
        parent: np.ndarray = self._points[best]
        return parent
