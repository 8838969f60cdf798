"""The loop of a search: proposals, scores, the journal, and resuming from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from razorlite.core.distributed import broadcast_object
from razorlite.core.errors import ConfigError, RunFolderError
from razorlite.core.registry import suggestion
from razorlite.cost import Constraint, CostModel
from razorlite.engine.run_folder import on_main
from razorlite.search.feasible import Feasible
from razorlite.search.pareto import pareto_front
from razorlite.search.records import TrialJournal
from razorlite.search.searcher import Searcher
from razorlite.search.trial import Trial
from razorlite.search.workers import (
    Attempt,
    Outcome,
    ProcessWorkers,
    Score,
    SearchError,
    Workers,
)
from razorlite.space import ChoiceSpace, Subnet, Value

Progress = Callable[["Study", Trial], None]
Recorded = Sequence[tuple[int, Mapping[str, Any]]]


class Study:
    """Runs a searcher: scores what it proposes, writes the journal, knows the best.

    The journal's first line says what is searched, each further line is one trial. Resuming replays
    the recorded trials through the searcher, so that an interrupted study goes on exactly as if it
    had not been; a line that a killed process left torn is scored again.

    A candidate fails for its own fault alone: its score is not finite, or scoring raised
    `CandidateError` or an error of `catch`. Anything else (a disk, a worker, a GPU, a mistake in
    the code) ends the study with the journal intact, and resuming scores that candidate again.

    Several processes (torchrun) share the candidates of a round among them and find the same as
    one process.

    Args:
        space: what is searched.
        searcher: proposes candidates.
        score: candidate to a metric, or to named metrics with `metric` among them; more is better.
        table: costs of the space's points; needed where there is a constraint.
        constraint: what a candidate may cost; proposals beyond it fail without being scored.
        journal: file of the trials; none is written by default.
        metric: which metric is the score.
        settings: what else must be equal for a resumed study (seed, checkpoint, ...).
        max_trials: stop after so many; what a journal holds beyond them is kept.
        max_failures: give up when so many fail before any has succeeded.
        split: whether processes take different candidates; if not, `score` is called with each
            candidate in all of them and shares the work itself.
        progress: called in the main process with the study and each new trial.
        catch: errors of `score` that are the candidate's own fault.
        workers: where candidates are scored; here, or on torchrun's processes by default.

    Attributes:
        trials: in the order of proposals.

    Raises:
        ConfigError: a number is out of range, or nothing gives the costs that are limited.
    """

    def __init__(
        self,
        *,
        space: ChoiceSpace,
        searcher: Searcher,
        score: Score,
        table: CostModel | None = None,
        constraint: Constraint | None = None,
        journal: str | Path | None = None,
        metric: str = "score",
        settings: Mapping[str, Any] | None = None,
        max_trials: int | None = None,
        max_failures: int = 10,
        split: bool = True,
        progress: Progress | None = None,
        catch: tuple[type[Exception], ...] = (),
        workers: Workers | None = None,
    ) -> None:
        for name, value in {"max_trials": max_trials, "max_failures": max_failures}.items():
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        self.space, self.searcher = space, searcher
        self.feasible = Feasible(table, constraint or Constraint())
        self.metric, self.settings = metric, dict(settings or {})
        self.max_trials, self.max_failures = max_trials, max_failures
        self.trials: list[Trial] = []
        self._attempt = Attempt(score, metric, catch)
        self._workers = workers or ProcessWorkers(split=split)
        self._progress, self._path = progress, journal
        self._journal: TrialJournal | None = None
        self._known: dict[tuple[Value, ...], Trial] = {}

    def run(self, *, resume: bool = False, started: Callable[[], None] | None = None) -> Trial:
        """Search to the end and return the best trial.

        Args:
            resume: go on from the journal; where there is none, start.
            started: called once the journal is known to be this search's.

        Raises:
            RunFolderError: there is a journal and `resume` is off, it is of another search or
                damaged, or it cannot be written.
            SearchError: every candidate failed, or scoring broke down.
            BudgetError: no candidate meets the constraint.
        """
        recorded = self._open(resume)
        if started is not None:
            started()
        while True:
            proposed = self.searcher.ask(self._wanted(len(recorded)))
            if not proposed:
                break
            trials = self._replayed(proposed, recorded)
            trials += self._scored(proposed[len(trials) :])
            self.searcher.tell(trials)
            self._check_failures()
        self._check_all_replayed(recorded)
        return self.best

    @property
    def table(self) -> CostModel | None:
        """The costs of the space's points."""
        return self.feasible.table

    @property
    def constraint(self) -> Constraint:
        """What a candidate may cost."""
        return self.feasible.constraint

    @property
    def best(self) -> Trial:
        """Return the trial with the highest score, of equal ones the first.

        Raises:
            SearchError: there is none.
        """
        good = [trial for trial in self.trials if trial.score is not None]
        if not good:
            raise SearchError(self._failed("the search ended without a scored candidate"))
        return max(good, key=lambda trial: (trial.score, -trial.number))

    def front(self, cost: str = "macs") -> list[Trial]:
        """Return the trials that no other beats in both cost and score, by rising cost.

        Raises:
            ConfigError: there is no such kind of cost.
        """
        if cost not in self.feasible.names:
            known = ", ".join(self.feasible.names) or "none"
            raise ConfigError(f"no cost named {cost!r}; known are {known}")
        good = [trial for trial in self.trials if trial.score is not None]
        scores = [float(trial.score or 0.0) for trial in good]
        return [good[i] for i in pareto_front([trial.cost[cost] for trial in good], scores)]

    def _wanted(self, recorded: int) -> int:
        end = math.inf if self.max_trials is None else max(self.max_trials, recorded)
        return int(min(self._workers.size, end - len(self.trials)))

    def _open(self, resume: bool) -> Recorded:
        """Return the recorded trials, the same in all processes; begin a new journal."""
        if self._path is None:
            return []
        self._journal = journal = TrialJournal(self._path, self._header())
        return broadcast_object(on_main(lambda: journal.open(resume))) or []

    def _header(self) -> dict[str, Any]:
        return {
            "space": self.space.fingerprint,
            "searcher": dict(self.searcher.settings),
            "constraint": self.constraint.to_dict(),
            "metric": self.metric,
            "settings": self.settings,
        }

    def _expected(self, number: int, subnet: Subnet) -> Trial:
        """Return what is known of a candidate before it is scored."""
        point = self.space.encode(subnet)
        trial = Trial(number=number, subnet=subnet, cost=self.feasible.cost(point))
        if self.feasible(point[None])[0]:
            return trial
        return replace(trial, error=f"beyond the constraint {self.constraint}")

    def _replayed(self, proposed: Sequence[Subnet], recorded: Recorded) -> list[Trial]:
        """Return the trials of those proposals that the journal holds."""
        trials = []
        for subnet in proposed[: max(0, len(recorded) - len(self.trials))]:
            assert self._journal is not None
            line, record = recorded[len(self.trials)]
            expected = self._expected(len(self.trials), subnet)
            trials.append(self._keep(self._journal.read(line, record, expected, self.metric)))
        return trials

    def _check_all_replayed(self, recorded: Recorded) -> None:
        if len(recorded) > len(self.trials):
            assert self._journal is not None
            line = recorded[len(self.trials)][0]
            raise RunFolderError(
                f"{self._journal.path}:{line}: this search ends after {len(self.trials)} trials, "
                f"and the journal goes on; restore the file or delete it from this line on"
            )

    def _scored(self, proposed: Sequence[Subnet]) -> list[Trial]:
        """Score candidates and record them in order, up to one that stops the search."""
        first = len(self.trials)
        expected = [self._expected(first + i, subnet) for i, subnet in enumerate(proposed)]
        new: dict[tuple[Value, ...], Trial] = {}
        for trial in expected:
            if trial.error is None and _key(trial) not in self._known:
                new.setdefault(_key(trial), trial)
        outcomes = self._workers.run(
            self._attempt, {trial.number: trial.subnet for trial in new.values()}
        )
        trials = []
        for trial in expected:
            if trial.number in outcomes and outcomes[trial.number].stop:
                break
            trials.append(self._record(self._finished(trial, outcomes)))
        self._check_stop(outcomes)
        return trials

    def _finished(self, trial: Trial, outcomes: Mapping[int, Outcome]) -> Trial:
        """Return a trial with its metrics; one that was scored before has the same."""
        twin = self._known.get(_key(trial))
        if twin is not None:
            return replace(twin, number=trial.number, seconds=0.0)
        return (
            trial if trial.error is not None else self._with_outcome(trial, outcomes[trial.number])
        )

    def _with_outcome(self, trial: Trial, outcome: Outcome) -> Trial:
        trial = replace(trial, scores=outcome.metrics, seconds=outcome.seconds)
        if outcome.error is not None:
            return replace(trial, error=outcome.error)
        if self.metric not in outcome.metrics:
            raise ConfigError(
                f"search.metric {self.metric!r} is not among the metrics "
                f"{', '.join(outcome.metrics)}{suggestion(self.metric, list(outcome.metrics))}"
            )
        score = outcome.metrics[self.metric]
        if not math.isfinite(score):
            return replace(trial, error=f"{self.metric} is {score}")
        subnet = trial.subnet.with_results(cost=trial.cost, scores=outcome.metrics)
        return replace(trial, subnet=subnet, score=score)

    def _record(self, trial: Trial) -> Trial:
        """Write a trial and tell of it."""
        self._keep(trial)
        on_main(lambda: self._write(trial))
        return trial

    def _write(self, trial: Trial) -> None:
        if self._journal is not None:
            self._journal.append(trial)
        if self._progress is not None:
            self._progress(self, trial)

    def _check_stop(self, outcomes: Mapping[int, Outcome]) -> None:
        """Raise what stopped the search, the same in all processes.

        Raises:
            KeyboardInterrupt: any process was interrupted.
            RazorliteError: scoring broke down.
        """
        stopped = {number: o for number, o in sorted(outcomes.items()) if o.stop}
        if any(o.stop and o.stop[0] is KeyboardInterrupt for o in stopped.values()):
            raise KeyboardInterrupt
        for number, outcome in stopped.items():
            assert outcome.stop is not None
            kind, message = outcome.stop
            raise kind(
                f"scoring trial {number} stopped the search: {message}; the {len(self.trials)} "
                f"trials before it are kept, and resuming scores it again"
            ) from outcome.cause

    def _keep(self, trial: Trial) -> Trial:
        self.trials.append(trial)
        self._known.setdefault(_key(trial), trial)
        return trial

    def _check_failures(self) -> None:
        if len(self.trials) >= self.max_failures and all(t.score is None for t in self.trials):
            raise SearchError(
                self._failed(f"all of the first {len(self.trials)} candidates failed")
            )

    def _failed(self, what: str) -> str:
        errors = [trial.error for trial in self.trials if trial.error]
        return f"{what}; the first: {errors[0]}" if errors else what


def _key(trial: Trial) -> tuple[Value, ...]:
    return tuple(trial.subnet.choices.values())
