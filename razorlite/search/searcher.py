"""What a searcher is, and the two that learn nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count
from razorlite.core.registry import register
from razorlite.search.candidates import Candidates
from razorlite.search.feasible import Feasible
from razorlite.search.objectives import Objectives
from razorlite.search.trial import Trial

_BATCH = 64  # candidates of a batch where nothing is learnt from it


class Searcher(ABC):
    """Proposes candidates in batches and learns from their scores.

    A batch is all that a searcher proposes before it has to know more. The study asks for one in
    the main process, journals it with the searcher's state, has it scored by however many workers
    there are, and tells all of its trials before it asks again. So what is found depends neither on
    the number of workers nor on interruptions, even where a searcher draws on outside randomness.

    Args:
        candidates: where points come from; it knows the space, the constraint and what was seen.
        settings: all else that decides what is proposed, as plain values.

    Attributes:
        settings: these, with the class and the seed; a resumed search must have the same.
        one_objective: whether only the first value of a trial is understood.
        batch_size: how many it proposes at a time; None where that is not fixed.
        total: how many it proposes in all, at most; None where that is not known.
    """

    one_objective: ClassVar[bool] = True
    batch_size: int | None = None
    total: int | None = None

    def __init__(self, candidates: Candidates, **settings: Any) -> None:
        self.candidates = candidates
        kind = {"type": type(self).__name__, "seed": candidates.seed}
        self.settings: Mapping[str, Any] = {**kind, **settings}

    @classmethod
    def check_objectives(cls, objectives: Objectives) -> None:
        """Refuse several objectives where one is understood.

        Raises:
            ConfigError: names them and the searcher.
        """
        if cls.one_objective and len(objectives) > 1:
            raise ConfigError(
                f"{cls.__name__} understands one objective, got {objectives}; name one metric, or "
                f"use a searcher of several such as NSGA2Searcher"
            )

    @property
    def name(self) -> str:
        """What it is called in texts: the type that a configuration names."""
        return type(self).__name__

    @property
    def tried(self) -> Feasible:
        """What is scored: points that meet the constraint, and others on the way to it."""
        return self.candidates.feasible

    @abstractmethod
    def ask(self) -> np.ndarray:
        """Return the next batch, (N, D) int64 points; N is 0 when the search is over."""

    @abstractmethod
    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn from the trials of the last batch, in order; failed ones have no values."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state after a batch was proposed, as JSON's values.

        It is written with every batch, so that it should not grow with the search; points that
        were proposed are known without it, from `candidates.seen`.
        """
        return {"rng": self.candidates.rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.candidates.rng.bit_generator.state = state["rng"]


@register()
class RandomSearcher(Searcher):
    """Proposes random candidates: the control that a search must beat."""

    one_objective = False
    batch_size: int = _BATCH

    def __init__(
        self, *, candidates: Candidates, max_trials: Count = 1000, batch_size: Count = _BATCH
    ) -> None:
        """Keep the settings.

        Args:
            candidates: where points come from.
            max_trials: how many to propose.
            batch_size: how many to propose at a time.

        Raises:
            ConfigError: a setting is out of range.
        """
        for name, value in {"max_trials": max_trials, "batch_size": batch_size}.items():
            if value < 1:
                raise ConfigError(f"RandomSearcher.{name} must be at least 1, got {value}")
        own = {} if batch_size == _BATCH else {"batch_size": batch_size}
        super().__init__(candidates, max_trials=max_trials, **own)
        self._left, self.batch_size = max_trials, batch_size
        self.total = max_trials

    def ask(self) -> np.ndarray:
        """Return the next batch, (N, D) points; none when the search is over."""
        points = self.candidates.random(min(self.batch_size, self._left))
        self._left -= len(points)
        return points

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON's values."""
        return {**super().state_dict(), "left": self._left}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self._left = state["left"]


@register()
class ExhaustiveSearcher(Searcher):
    """Proposes every allowed candidate of a small space, the last dimension varying fastest."""

    one_objective = False
    batch_size = _BATCH

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
        super().__init__(candidates, max_trials=max_trials)
        self._points = candidates.listed()
        if not len(self._points):
            raise candidates.none_found()
        self._next, self.total = 0, len(self._points)

    def ask(self) -> np.ndarray:
        """Return the next batch, (N, D) points; none when the search is over."""
        points = self._points[self._next : self._next + _BATCH]
        self._next += len(points)
        return points

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON's values."""
        return {"next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._next = state["next"]
