"""Searchers whose proposals follow from the trials that they were told."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from razorlite.search.candidates import Candidates
from razorlite.search.searcher import Searcher
from razorlite.search.trial import Trial


class HistorySearcher(Searcher):
    """Remembers what it was told; its state is a number, for `candidates.seen` has the trials.

    Args:
        candidates: where points come from.
        max_trials: how many to propose in all.
        batch_size: how many to propose at a time: as many as there are workers, for they wait for
            the last one of a batch.
        settings: all else that decides what is proposed.

    Attributes:
        history: the trials that were told and did not fail, in order.
        told: how many were told, failed ones included.
    """

    def __init__(
        self, candidates: Candidates, *, max_trials: int, batch_size: int, **settings: Any
    ) -> None:
        super().__init__(candidates, max_trials=max_trials, batch_size=batch_size, **settings)
        self.max_trials = self.total = max_trials
        self.batch_size: int = batch_size
        self.told = 0
        self.history: list[Trial] = []
        self._points: list[np.ndarray] = []

    @property
    def points(self) -> np.ndarray:
        """Return the points of the history, (N, D) int64."""
        return self.candidates.stacked(self._points)

    def ask(self) -> np.ndarray:
        """Return the next batch, (N, D) points; none when the search is over."""
        count = min(self.batch_size, self.max_trials - self.told)
        return self.candidates.stacked(self.propose(count) if count > 0 else [])

    @abstractmethod
    def propose(self, count: int) -> Sequence[np.ndarray]:
        """Give out up to `count` (D,) points; none where the search is over."""

    def tell(self, trials: Sequence[Trial]) -> None:
        """Remember the trials of a batch."""
        self.told += len(trials)
        scored = [trial for trial in trials if trial.values]
        self.history += scored
        self._points += [self.candidates.space.encode(trial.subnet) for trial in scored]

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON's values."""
        return {**super().state_dict(), "told": self.told}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; the trials are those of `candidates.seen`."""
        super().load_state_dict(state)
        self.told, self.history, self._points = 0, [], []
        known = self.candidates.seen.trials
        self.tell([trial for trial in known if trial.number < state["told"]])
        self.told = state["told"]

    def filled(self, found: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
        """Return points and random ones, `count` together or as many as there are."""
        missing = count - len(found)
        return [*found, *self.candidates.random(missing)] if missing > 0 else list(found)
