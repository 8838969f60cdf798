"""A searcher that proposes what it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from razorlite.search.candidates import Candidates
from razorlite.search.searcher import Searcher
from razorlite.search.trial import Trial


class FixedSearcher(Searcher):
    """Proposes given points, all at once.

    Args:
        candidates: of the space and the constraint.
        points: (N, D) indices.
    """

    one_objective = False

    def __init__(self, candidates: Candidates, points: np.ndarray) -> None:
        super().__init__(candidates, points=points.tolist())
        self.batch_size = len(points)
        self._left = points

    def ask(self) -> np.ndarray:
        """Return all points; none the second time."""
        found, self._left = self._left, self._left[:0]
        return found

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn nothing."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state after the points were proposed."""
        super().load_state_dict(state)
        self._left = self._left[:0]
