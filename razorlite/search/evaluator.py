"""What is paid for: each candidate once, and only those that may be tried."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from razorlite.search.feasible import Feasible
from razorlite.search.objectives import Objectives
from razorlite.search.searcher import Searcher
from razorlite.search.seen import Seen
from razorlite.search.trial import Trial
from razorlite.search.workers import Attempt, Outcome, SearchError, Workers
from razorlite.space import ChoiceSpace

_log = logging.getLogger("razorlite")


@dataclass(frozen=True)
class Evaluator:
    """Scores points of a space by workers.

    Attributes:
        space: whose points they are.
        tried: their costs, and which of them may be scored.
        seen: what was scored before on the same images.
        objectives: what candidates are compared by.
        attempt: candidate to outcome.
        workers: where candidates are scored.
    """

    space: ChoiceSpace
    tried: Feasible
    seen: Seen
    objectives: Objectives
    attempt: Attempt
    workers: Workers

    @property
    def size(self) -> int:
        """How many candidates are scored at a time."""
        return max(1, self.workers.size)

    def tell_idle(self, searcher: Searcher) -> None:
        """Warn where a searcher proposes fewer candidates at a time than there are workers."""
        proposed = searcher.batch_size
        if proposed is not None and proposed < self.size:
            _log.warning(
                "%d workers share the %d candidates that %s proposes at a time, so that %d idle; "
                "let it propose more (batch_size, population_size), or take fewer workers",
                self.size, proposed, searcher.name, self.size - proposed,
            )  # fmt: skip

    def expected(self, number: int, point: np.ndarray) -> Trial:
        """Return what is known of a (D,) candidate before it is scored.

        One beyond the constraint has its error already.
        """
        subnet = self.space.decode(point)
        trial = Trial(number=number, subnet=subnet, cost=self.tried.cost(point))
        if self.tried(point[None])[0]:
            return trial
        return replace(trial, error=f"beyond the constraint {self.tried.constraint}")

    def run(self, trials: Sequence[Trial]) -> tuple[list[Trial], Mapping[int, Outcome]]:
        """Score expected trials; one that was scored before has the same result.

        Returns:
            The trials up to one that stops the search, with their results, and all outcomes.

        Raises:
            ConfigError: an objective is not among the metrics.
            SearchError: the workers have left out a candidate, and say no reason.
        """
        new = self._new(trials)
        outcomes = self.workers.run(self.attempt, {t.number: t.subnet for t in new.values()})
        done: list[Trial] = []
        for trial in trials:
            if new.get(self._key(trial)) is trial and not self._is_done(trial, outcomes):
                break
            done.append(self._finished(trial, outcomes))
            self.keep(done[-1])
        return done, outcomes

    def keep(self, trial: Trial) -> None:
        """Note what came of a candidate, so that it is not paid for again."""
        if trial.promoted:
            self.seen.keep(self.space.encode(trial.subnet), trial)

    def _new(self, trials: Sequence[Trial]) -> dict[bytes, Trial]:
        """Return those that are to be scored, by their points."""
        new: dict[bytes, Trial] = {}
        for trial in trials:
            if trial.error is None and trial.promoted and self._before(trial) is None:
                new.setdefault(self._key(trial), trial)
        return new

    def _is_done(self, trial: Trial, outcomes: Mapping[int, Outcome]) -> bool:
        if trial.number in outcomes:
            return outcomes[trial.number].stop is None
        if not any(outcome.stop for outcome in outcomes.values()):
            raise SearchError(
                f"the workers have not scored trial {trial.number}, and say no reason"
            )
        return False

    def _finished(self, trial: Trial, outcomes: Mapping[int, Outcome]) -> Trial:
        if not trial.promoted:
            return trial
        before = self._before(trial)
        if before is not None:
            return replace(before, number=trial.number, seconds=0.0)
        return trial if trial.error is not None else self._scored(trial, outcomes[trial.number])

    def _scored(self, trial: Trial, outcome: Outcome) -> Trial:
        trial = replace(trial, scores=outcome.metrics, seconds=outcome.seconds)
        if outcome.error is not None:
            return replace(trial, error=outcome.error)
        values = self.objectives.values(outcome.metrics, trial.cost)
        fault = self.objectives.fault(values)
        if fault is not None:
            return replace(trial, error=fault)
        subnet = trial.subnet.with_results(cost=trial.cost, scores=outcome.metrics)
        return replace(trial, subnet=subnet, values=values)

    def _before(self, trial: Trial) -> Trial | None:
        """Return an earlier trial of the same point."""
        return self.seen.trial(self.space.encode(trial.subnet))

    def _key(self, trial: Trial) -> bytes:
        return self.space.encode(trial.subnet).tobytes()
