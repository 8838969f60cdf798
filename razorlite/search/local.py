"""Local search: from neighbour to better neighbour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from razorlite.core.ranges import Count
from razorlite.core.registry import register
from razorlite.search.candidates import Candidates
from razorlite.search.history import HistorySearcher
from razorlite.search.trial import Trial


@register()
class LocalSearcher(HistorySearcher):
    """Climbs: tries the neighbours of a candidate, and goes on from the first that is better.

    Neighbours differ in one dimension. Where no new one is left, it starts again from the best of
    some random candidates.

    Local search is a strong baseline, https://arxiv.org/abs/2005.02960, algorithm 1.
    """

    def __init__(
        self,
        *,
        candidates: Candidates,
        max_trials: Count = 1000,
        starts: Count = 10,
        batch_size: Count = 1,
    ) -> None:
        """Keep the settings.

        Args:
            candidates: where points come from.
            max_trials: how many to propose in all.
            starts: random candidates of which the best is climbed from.
            batch_size: how many to propose at a time.

        Raises:
            ConfigError: a setting is out of range.
        """
        super().__init__(candidates, max_trials=max_trials, batch_size=batch_size, starts=starts)
        self.starts = starts
        self._top: Trial | None = None  # climbed from
        self._left = starts  # random ones to try before climbing

    def propose(self, count: int) -> list[np.ndarray]:
        """Give out up to `count` (D,) points: random ones, or neighbours of the top."""
        if self._top is not None and self._left <= 0:
            found = self._neighbours(self._top, count)
            if found:
                return found
            self._top, self._left = None, self.starts
        found = self.filled([], min(count, max(self._left, 1)))
        self._left -= len(found)
        return found

    def tell(self, trials: Sequence[Trial]) -> None:
        """Remember the trials of a batch, and climb."""
        super().tell(trials)
        for trial in trials:
            if trial.values and (self._top is None or trial.values[0] > self._top.values[0]):
                self._top = trial

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON's values."""
        top = None if self._top is None else self._top.number
        return {**super().state_dict(), "top": top, "left": self._left}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        numbered = {trial.number: trial for trial in self.history}
        self._top = None if state["top"] is None else numbered[state["top"]]
        self._left = state["left"]

    def _neighbours(self, top: Trial, count: int) -> list[np.ndarray]:
        """Give out new neighbours, in random order."""
        points = self.candidates.neighbours(self.candidates.space.encode(top.subnet))
        chosen = points[self.candidates.rng.permutation(len(points))[:count]]
        return [point for point in chosen if self.candidates.take(point)]
