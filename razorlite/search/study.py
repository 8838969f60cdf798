"""The loop of a search: proposals, scores, the journal, and resuming from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from razorlite.core.errors import ConfigError, RunFolderError
from razorlite.cost import Constraint
from razorlite.engine.run_folder import on_main, told_by_main
from razorlite.search.batch import Batch
from razorlite.search.elastic import Elastic, FirstScores, FirstTrial
from razorlite.search.evaluator import Evaluator
from razorlite.search.feasible import Feasible
from razorlite.search.objectives import MetricSpec, Objectives
from razorlite.search.pareto import pareto_front
from razorlite.search.records import SearchJournal
from razorlite.search.searcher import Searcher
from razorlite.search.seen import Seen
from razorlite.search.trial import Trial
from razorlite.search.workers import (
    Attempt,
    ProcessWorkers,
    Score,
    SearchError,
    Workers,
    check_stop,
)
from razorlite.space import ChoiceSpace

Progress = Callable[["Study", Trial], None]
Lines = Sequence[tuple[int, Mapping[str, Any]]]


class Study:
    """Runs a searcher: scores what it proposes, writes the journal, knows the best.

    The journal's first line says what is searched. Each batch of proposals is written with the
    searcher's state before any of it is scored, and each trial once it is scored. Resuming takes up
    the state of the last batch, scores what is left of it, and goes on exactly as if nothing had
    happened; a line that a killed process left torn is done again.

    A candidate fails for its own fault alone: its score is not finite, or scoring raised
    `CandidateError` or an error of `catch`. Anything else (a disk, a worker, a GPU, a mistake in
    the code) ends the study with the journal intact, and resuming scores that candidate again.

    Several processes (torchrun) share the candidates of a batch among them; the main one alone asks
    the searcher. They find the same as one process.

    Args:
        searcher: proposes candidates; its `candidates` have the space and the constraint, and
            proposals beyond it fail without being scored.
        score: candidate to a metric, or to several by name.
        journal: file of the trials; none is written by default.
        metric: the objectives: a metric or kind of cost that is to be large, several of them, or
            names to "max" or "min". The best trial is that of the first one.
        settings: what else must be equal for a resumed study (checkpoint, data, ...).
        max_trials: stop after so many; what a journal holds beyond them is kept.
        max_failures: give up when so many fail before any has succeeded.
        split: whether processes take different candidates; if not, `score` is called with each
            candidate in all of them and shares the work itself.
        progress: called in the main process with the study and each new trial.
        catch: errors of `score` that are the candidate's own fault.
        workers: where candidates are scored; here, or on torchrun's processes by default.
        elastic: score each batch on a few images first and the better part of it alone on all; a
            searcher learns from these alone, the others have no values. Batches are scored on the
            first images whole, also where `max_trials` ends within one.

    Attributes:
        objectives: what candidates are compared by.
        elastic: how candidates are scored on a few images first.
        trials: in the order of proposals.
        batches: number of the first trial of each batch.

    Raises:
        ConfigError: a number is out of range, or there are more objectives than the searcher
            understands.
    """

    def __init__(
        self,
        *,
        searcher: Searcher,
        score: Score,
        journal: str | Path | None = None,
        metric: MetricSpec = "score",
        settings: Mapping[str, Any] | None = None,
        max_trials: int | None = None,
        max_failures: int = 10,
        split: bool = True,
        progress: Progress | None = None,
        catch: tuple[type[Exception], ...] = (),
        workers: Workers | None = None,
        elastic: Elastic | None = None,
    ) -> None:
        for name, value in {"max_trials": max_trials, "max_failures": max_failures}.items():
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        self.searcher, self.settings = searcher, dict(settings or {})
        self.objectives = Objectives.parse(metric)
        searcher.check_objectives(self.objectives)
        self.max_trials, self.max_failures = max_trials, max_failures
        self.trials: list[Trial] = []
        self.batches: list[int] = []
        self.elastic = elastic
        first = None if elastic is None else elastic.score
        self._evaluator = Evaluator(
            space=searcher.candidates.space,
            tried=searcher.tried,
            seen=searcher.candidates.seen,
            objectives=self.objectives,
            attempt=Attempt(score, self.objectives.names, catch, first),
            workers=workers or ProcessWorkers(split=split),
        )
        self._first = None if elastic is None else self._first_scores(elastic)
        self._progress = progress
        self._journal = None if journal is None else SearchJournal(journal, self._header())

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
        on_main(partial(self._evaluator.tell_idle, self.searcher))
        batch = self._open(resume)
        if started is not None:
            started()
        self._check_failures()
        while not self._is_spent():
            batch = batch or self._next_batch()
            if not len(batch.points):
                break
            batch = self._complete(batch)
        return self.best

    @property
    def space(self) -> ChoiceSpace:
        """What is searched."""
        return self.searcher.candidates.space

    @property
    def feasible(self) -> Feasible:
        """The costs of points, and which of them may be tried."""
        return self.searcher.candidates.feasible

    @property
    def constraint(self) -> Constraint:
        """What a candidate may cost."""
        return self.feasible.constraint

    @property
    def seen(self) -> Seen:
        """What was given out and scored."""
        return self.searcher.candidates.seen

    @property
    def scored(self) -> list[Trial]:
        """Return the trials that have values and meet the constraint, in order."""
        meets = self.constraint.meets
        return [trial for trial in self.trials if trial.values and meets(trial.cost)]

    @property
    def best(self) -> Trial:
        """Return the best trial by the first objective, of equal ones the first.

        Raises:
            SearchError: there is none.
        """
        scored = self.scored
        if not scored:
            that = f" that meets {self.constraint}" if self.constraint.limits else ""
            raise SearchError(self._failed(f"the search ended without a scored candidate{that}"))
        return max(scored, key=lambda trial: (trial.score, -trial.number))

    @property
    def front(self) -> list[Trial]:
        """Return the trials that no other beats in all objectives, best by the first one first."""
        scored = self.scored
        return [scored[i] for i in pareto_front([trial.values for trial in scored])]

    def _first_scores(self, elastic: Elastic) -> FirstScores:
        """Return what scores on the first images, apart from the scores on all."""
        elastic.config.check(self.searcher)
        attempt = replace(self._evaluator.attempt, on_first=True)
        return FirstScores(
            elastic, replace(self._evaluator, attempt=attempt, seen=Seen(self.space))
        )

    def _is_spent(self) -> bool:
        return self.max_trials is not None and len(self.trials) >= self.max_trials

    def _open(self, resume: bool) -> Batch | None:
        """Take up a journal, or begin it; return the batch that is being scored, if there is one.

        The lines are read by the main process and checked by all.
        """
        journal = self._journal
        if journal is None:
            return None
        lines: Lines = told_by_main(lambda: journal.open(resume) or [])
        batch = None
        for line, record in lines:
            if "proposals" in record:
                batch = self._read_batch(journal, line, record, batch)
            elif "first" in record and self._first is not None:
                self._first.read(journal, line, record)
            else:
                self._read_trial(journal, line, record, batch)
        if batch is not None:
            on_main(lambda: self._take_state(journal, batch))
        return batch

    def _header(self) -> dict[str, Any]:
        return {
            "space": self.space.fingerprint,
            "searcher": dict(self.searcher.settings),
            "constraint": self.constraint.to_dict(),
            "metric": dict(self.objectives.directions),
            "settings": self.settings,
            **({"elastic": self.elastic.to_dict()} if self.elastic else {}),
        }

    def _read_batch(
        self, journal: SearchJournal, line: int, record: Mapping[str, Any], before: Batch | None
    ) -> Batch:
        batch = journal.batch(line, record, len(self.batches), len(self.trials))
        if before is not None and len(self.trials) < before.end:
            journal.refuse(line, f"trial {len(self.trials)} is missing before it")
        self._begin(batch)
        return batch

    def _read_trial(
        self, journal: SearchJournal, line: int, record: Mapping[str, Any], batch: Batch | None
    ) -> None:
        number = len(self.trials)
        if batch is None or number >= batch.end:
            journal.refuse(line, f"a batch of proposals is missing before trial {number}")
        if self._first is not None and not self._first.is_done:
            journal.refuse(line, f"scores on the first images are missing before trial {number}")
        expected = self._expected(number, batch)
        self.trials.append(journal.trial(line, record, expected, self.objectives))
        self._evaluator.keep(self.trials[-1])

    def _take_state(self, journal: SearchJournal, batch: Batch) -> None:
        """Bring the searcher to where it was when it had proposed a batch."""
        try:
            self.searcher.load_state_dict(batch.state or {})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunFolderError(
                f"{journal.path}: {self.searcher.name} cannot take up its state of batch "
                f"{batch.number} ({type(error).__name__}: {error}); was it written by another "
                f"version? start in another work dir"
            ) from error

    def _next_batch(self) -> Batch:
        """Ask the searcher in the main process, and journal its proposals."""
        batch = told_by_main(self._ask)
        if len(batch.points):
            self._begin(batch)
        return batch

    def _ask(self) -> Batch:
        points = self.searcher.ask()
        points = self.space.canonical(points) if len(points) else points
        batch = Batch(
            number=len(self.batches),
            first=len(self.trials),
            points=np.asarray(points, dtype=np.int64),
            state=self.searcher.state_dict(),
        )
        if len(points) and self._journal is not None:
            self._journal.append(batch)
        return batch

    def _begin(self, batch: Batch) -> None:
        self.batches.append(batch.first)
        for point in batch.points:
            self.seen.add(point)
        if self._first is not None:
            self._first.begin(batch)

    def _complete(self, batch: Batch) -> Batch | None:
        """Score what is left of a batch and tell all of it; return it if the budget ends first."""
        for done, outcomes in () if self._first is None else self._first.runs():
            on_main(partial(self._write_first, done))
            check_stop(outcomes, len(self.trials))
        while len(self.trials) < batch.end:
            if self._is_spent():
                return batch
            self._score(batch)
            self._check_failures()
        told = self.trials[batch.first :]
        on_main(lambda: self.searcher.tell(told))
        return None

    def _score(self, batch: Batch) -> None:
        """Score the next candidates and record them in order, up to one that stops the search."""
        done, outcomes = self._evaluator.run(self._due(batch))
        for trial in done:
            self.trials.append(trial)
            on_main(partial(self._write, trial))
        check_stop(outcomes, len(self.trials))

    def _due(self, batch: Batch) -> list[Trial]:
        """Return what is known of the next candidates before they are scored."""
        first, end = len(self.trials), len(self.trials) + self._evaluator.size
        end = min(end, batch.end, self.max_trials or batch.end)
        return [self._expected(number, batch) for number in range(first, end)]

    def _expected(self, number: int, batch: Batch) -> Trial:
        expected = self._evaluator.expected(number, batch.points[number - batch.first])
        return expected if self._first is None else self._first.known(expected)

    def _write_first(self, done: Sequence[FirstTrial]) -> None:
        if self._journal is not None:
            for trial in done:
                self._journal.append(trial)

    def _write(self, trial: Trial) -> None:
        if self._journal is not None:
            self._journal.append(trial)
        if self._progress is not None:
            self._progress(self, trial)

    def _check_failures(self) -> None:
        if len(self.trials) >= self.max_failures and all(t.error is not None for t in self.trials):
            raise SearchError(
                self._failed(f"all of the first {len(self.trials)} candidates failed")
            )

    def _failed(self, what: str) -> str:
        errors = [trial.error for trial in self.trials if trial.error]
        return f"{what}; the first: {errors[0]}" if errors else what
