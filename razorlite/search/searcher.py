"""What a searcher is, and the two that learn nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count
from razorlite.core.registry import register
from razorlite.search.candidates import Candidates
from razorlite.search.trial import Trial
from razorlite.space import Subnet


class Searcher(ABC):
    """Proposes candidates and learns from their scores.

    The order of proposals depends on the settings, the seed and the scores told, and not on how
    many are asked for at a time, so that one process and many find the same.

    Attributes:
        settings: what it was built with, as plain values.
    """

    settings: Mapping[str, Any]

    @abstractmethod
    def ask(self, count: int) -> list[Subnet]:
        """Return 1 to `count` new candidates; none when the search is over.

        May return fewer than asked for, where more need scores that have not been told. All that
        was proposed is told before an empty answer means the end.
        """

    @abstractmethod
    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn from scored candidates; failed ones have the score None."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values; a searcher that loads it proposes the same."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""


@register()
class RandomSearcher(Searcher):
    """Proposes random candidates: the control that a search must beat."""

    def __init__(self, *, candidates: Candidates, max_trials: Count = 1000) -> None:
        """Keep the settings.

        Args:
            candidates: where points come from.
            max_trials: how many to propose.

        Raises:
            ConfigError: a setting is out of range.
        """
        if max_trials < 1:
            raise ConfigError(f"RandomSearcher.max_trials must be at least 1, got {max_trials}")
        self.candidates = candidates
        self.settings = {"type": "RandomSearcher", "max_trials": max_trials}
        self._left = max_trials
        self._queue: deque[np.ndarray] = deque()

    def ask(self, count: int) -> list[Subnet]:
        """Return 1 to `count` new candidates; none when the search is over."""
        count = min(count, self._left)
        if count and not self._queue:
            self._queue.extend(self.candidates.random(64))
        points = [self._queue.popleft() for _ in range(min(count, len(self._queue)))]
        self._left -= len(points)
        return [self.candidates.space.decode(point) for point in points]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {
            "left": self._left,
            "queue": [point.tolist() for point in self._queue],
            "candidates": self.candidates.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._left = state["left"]
        self._queue = deque(np.array(point) for point in state["queue"])
        self.candidates.load_state_dict(state["candidates"])


@register()
class ExhaustiveSearcher(Searcher):
    """Proposes every allowed candidate of a small space, the last place varying fastest."""

    def __init__(self, *, candidates: Candidates, max_trials: Count = 10_000) -> None:
        """List the candidates.

        Args:
            candidates: where points come from.
            max_trials: refuse larger spaces.

        Raises:
            ConfigError: the space is too large.
            BudgetError: no point meets the constraint.
        """
        size = candidates.space.size
        if size > max_trials:
            raise ConfigError(
                f"ExhaustiveSearcher: the space has {size:,} points, max_trials is {max_trials:,}; "
                f"use EvolutionSearcher or raise it"
            )
        self.candidates = candidates
        self.settings = {"type": "ExhaustiveSearcher", "max_trials": max_trials}
        points = candidates.space.all_indices()
        self._points = points[candidates.allowed(points)]
        if not len(self._points):
            candidates.random(1)  # raises with the nearest cost
        self._next = 0

    def ask(self, count: int) -> list[Subnet]:
        """Return 1 to `count` new candidates; none when the search is over."""
        points = self._points[self._next : self._next + count]
        self._next += len(points)
        return [self.candidates.space.decode(point) for point in points]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {"next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._next = state["next"]
