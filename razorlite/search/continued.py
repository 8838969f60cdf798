"""A searcher that goes on from trials of a search before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from razorlite.search.feasible import Feasible
from razorlite.search.history import HistorySearcher
from razorlite.search.searcher import ExhaustiveSearcher, Searcher
from razorlite.search.slimming import GreedySlimming
from razorlite.search.trial import Trial


class ContinuedSearcher(Searcher):
    """Proposes known points first and lets another searcher learn from them, then proposes as it.

    Args:
        base: proposes what comes after them.
        points: (N, D) that meet the constraint, each once.

    Attributes:
        points: as given.
    """

    one_objective = False  # the base was asked

    def __init__(self, base: Searcher, points: np.ndarray) -> None:
        super().__init__(base.candidates, base=dict(base.settings), points=points.tolist())
        self.base, self.batch_size, self.points = base, base.batch_size, points
        self._known = points

    @property
    def name(self) -> str:
        """What the base is called."""
        return self.base.name

    @property
    def tried(self) -> Feasible:
        """What is scored, by the base."""
        return self.base.tried

    def ask(self) -> np.ndarray:
        """Return the known points, afterwards what the base proposes."""
        known, self._known = self._known, self._known[:0]
        return known if len(known) else self.base.ask()

    def tell(self, trials: Sequence[Trial]) -> None:
        """Let the base learn."""
        self.base.tell(trials)

    def state_dict(self) -> dict[str, Any]:
        """Return the base's state as JSON's values."""
        return self.base.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; the known points were proposed before any state."""
        self.base.load_state_dict(state)
        self._known = self._known[:0]


def begun_with(searcher: Searcher, points: np.ndarray) -> Searcher:
    """Return a searcher that proposes points first, those that its constraint allows.

    One that goes its own way whatever it is told, and sees every point there, stays as it is.

    Args:
        searcher: new.
        points: (N, D) of its space.
    """
    if isinstance(searcher, ExhaustiveSearcher | GreedySlimming):
        return searcher
    candidates = searcher.candidates
    unique = dict.fromkeys(point.tobytes() for point in points)
    first = candidates.stacked([np.frombuffer(key, dtype=np.int64) for key in unique])
    allowed = first[candidates.allowed(first)] if len(first) else first
    return ContinuedSearcher(searcher, allowed) if len(allowed) else searcher


def continued(searcher: Searcher, trials: Sequence[Trial]) -> Searcher:
    """Return a searcher that first learns from trials, see `begun_with`; they are none of its own.

    Args:
        searcher: new.
        trials: of the same space; those without values are left out.
    """
    candidates = searcher.candidates
    known = [candidates.space.encode(trial.subnet) for trial in trials if trial.values]
    found = begun_with(searcher, candidates.stacked(known))
    if isinstance(found, ContinuedSearcher) and isinstance(searcher, HistorySearcher):
        searcher.max_trials += len(found.points)
    return found
