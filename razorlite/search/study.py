"""The loop of a search: proposals, scores, the journal, and resuming from it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from razorlite.core.distributed import (
    broadcast_object,
    gather_objects,
    is_main,
    rank,
    world_size,
)
from razorlite.core.errors import ConfigError, RazorliteError, RunFolderError
from razorlite.core.journal import Journal
from razorlite.core.registry import suggestion
from razorlite.cost import Constraint, CostTable
from razorlite.search.pareto import pareto_front
from razorlite.search.searcher import Searcher
from razorlite.search.trial import Trial
from razorlite.space import ChoiceSpace, Subnet

Score = Callable[[Subnet], float | Mapping[str, float]]
Progress = Callable[["Study", Trial], None]


class SearchError(RazorliteError):
    """A search cannot go on, for instance because every candidate fails."""


class Study:
    """Runs a searcher: scores what it proposes, writes the journal, knows the best.

    The journal's first line says what is searched, each further line is one trial. Resuming replays
    the recorded trials through the searcher, so that an interrupted study goes on exactly as if it
    had not been; a line that a killed process left torn is scored again.

    Several processes (torchrun) share the candidates of a round among them and find the same as
    one process.

    Args:
        space: what is searched.
        searcher: proposes candidates.
        score: candidate to a figure, or to named figures with `metric` among them; more is better.
            One that raises, or is not finite, fails its candidate and not the study.
        table: costs of the space's points; needed where there is a constraint.
        constraint: what a candidate may cost; proposals beyond it fail without being scored.
        journal: file of the trials; none is written by default.
        metric: which figure is the score.
        settings: what else must be equal for a resumed study (seed, checkpoint, ...).
        max_trials: stop after so many.
        max_failures: give up when so many fail before any has succeeded.
        split: whether processes take different candidates; if not, `score` is called with each
            candidate in all of them and shares the work itself.
        progress: called in the main process with the study and each new trial.

    Attributes:
        trials: in the order of proposals.
    """

    def __init__(
        self,
        *,
        space: ChoiceSpace,
        searcher: Searcher,
        score: Score,
        table: CostTable | None = None,
        constraint: Constraint | None = None,
        journal: str | Path | None = None,
        metric: str = "score",
        settings: Mapping[str, Any] | None = None,
        max_trials: int | None = None,
        max_failures: int = 10,
        split: bool = True,
        progress: Progress | None = None,
    ) -> None:
        self.space, self.searcher, self.table = space, searcher, table
        self.constraint = constraint or Constraint()
        self.metric, self.settings = metric, dict(settings or {})
        self.max_trials, self.max_failures = max_trials, max_failures
        self.trials: list[Trial] = []
        self._score, self._split, self._progress = score, split, progress
        self._journal = None if journal is None else Journal(journal)
        self._known: dict[tuple[str, ...], Trial] = {}

    def run(self, *, resume: bool = False, started: Callable[[], None] | None = None) -> Trial:
        """Search to the end and return the best trial.

        Args:
            resume: go on from the journal; where there is none, start.
            started: called once the journal is known to be this search's.

        Raises:
            RunFolderError: there is a journal and `resume` is off, or it is of another search.
            SearchError: every candidate failed.
            BudgetError: no candidate meets the constraint.
        """
        recorded = self._open(resume)
        if started is not None:
            started()
        while True:
            proposed = self.searcher.ask(self._wanted())
            if not proposed:
                break
            trials = self._replayed(proposed, recorded)
            trials += self._scored(proposed[len(trials) :])
            self.searcher.tell(trials)
            self._check_failures()
        return self.best

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
        """Return the trials that no other beats in both cost and score, by rising cost."""
        good = [trial for trial in self.trials if trial.score is not None]
        scores = [float(trial.score or 0.0) for trial in good]
        return [good[i] for i in pareto_front([trial.cost[cost] for trial in good], scores)]

    def _wanted(self) -> int:
        left = math.inf if self.max_trials is None else self.max_trials - len(self.trials)
        return int(min(world_size() if self._split else 1, left))

    def _open(self, resume: bool) -> list[dict[str, Any]]:
        """Return the recorded trials, the same in all processes; begin a new journal."""
        records, error = [], None
        if is_main():
            try:
                records = self._read(resume)
            except RazorliteError as caught:
                error = caught
        records, error = broadcast_object((records, error))
        if error is not None:
            raise error
        return records

    def _read(self, resume: bool) -> list[dict[str, Any]]:
        if self._journal is None:
            return []
        records = self._journal.read()
        header = self._header()
        if len(records) < 2:  # no trial: a search that failed at its first one
            self._journal.path.unlink(missing_ok=True)
            self._journal.append(header)
            return []
        if not resume:
            raise RunFolderError(
                f"{self._journal.path} holds a search of {len(records) - 1} trials; resume it, or "
                f"choose another work dir"
            )
        self._check_header(records[0], header, self._journal.path)
        return records[1:]

    def _header(self) -> dict[str, Any]:
        header = {
            "format": 1,
            "space": self.space.fingerprint,
            "searcher": dict(self.searcher.settings),
            "constraint": self.constraint.to_dict(),
            "metric": self.metric,
            "settings": self.settings,
        }
        return json.loads(json.dumps(header, default=str))  # as it is when read again

    def _check_header(self, old: dict[str, Any], new: dict[str, Any], path: Path) -> None:
        for key, value in new.items():
            if old.get(key) != value:
                raise RunFolderError(
                    f"{path} is of another search: {key} was {old.get(key)}, now {value}; use the "
                    f"old settings or another work dir"
                )

    def _replayed(self, proposed: list[Subnet], recorded: list[dict[str, Any]]) -> list[Trial]:
        """Return the trials of those proposals that the journal holds."""
        trials = []
        for subnet in proposed:
            if len(self.trials) >= len(recorded):
                break
            record = recorded[len(self.trials)]
            if record.get("choices") != dict(subnet.choices):
                raise RunFolderError(
                    f"the journal's trial {len(self.trials)} is not what this search proposes; it "
                    f"was written by another version: start in another work dir"
                )
            trials.append(self._keep(_from_record(record, subnet)))
        return trials

    def _scored(self, proposed: list[Subnet]) -> list[Trial]:
        """Score candidates, each in one process, and record them in order."""
        first = len(self.trials)
        mine = {}
        for i, subnet in enumerate(proposed):
            if not self._split or i % world_size() == rank():
                mine[i] = self._try(first + i, subnet)
        results: dict[int, Trial] = {}
        for part in gather_objects(mine):
            results.update(part)
        trials = []
        for i in range(len(proposed)):
            if self._journal is not None and is_main():
                self._journal.append(results[i].to_record())
            trials.append(self._keep(results[i]))
            if self._progress is not None and is_main():
                self._progress(self, results[i])
        return trials

    def _try(self, number: int, subnet: Subnet) -> Trial:
        """Score one candidate; a failure becomes a failed trial."""
        twin = self._known.get(tuple(subnet.choices.values()))
        if twin is not None:
            return replace(twin, number=number, seconds=0.0)
        cost, allowed = self._cost(subnet)
        trial = Trial(number=number, subnet=subnet, cost=cost)
        if not allowed:
            return replace(trial, error=f"beyond the constraint {self.constraint}")
        start = time.perf_counter()
        try:
            figures = self._score(subnet)
        except ConfigError:
            raise
        except Exception as error:
            return replace(trial, error=_line(error), seconds=time.perf_counter() - start)
        return self._judged(replace(trial, seconds=time.perf_counter() - start), figures)

    def _judged(self, trial: Trial, figures: float | Mapping[str, float]) -> Trial:
        if not isinstance(figures, Mapping):
            figures = {self.metric: figures}
        if self.metric not in figures:
            raise ConfigError(
                f"search.metric {self.metric!r} is not among the figures {', '.join(figures)}"
                f"{suggestion(self.metric, list(figures))}"
            )
        scores = {name: float(value) for name, value in figures.items()}
        score = scores[self.metric]
        if not math.isfinite(score):
            return replace(trial, scores=scores, error=f"{self.metric} is {score}")
        subnet = trial.subnet.with_figures(cost=trial.cost, scores=scores)
        return replace(trial, subnet=subnet, scores=scores, score=score)

    def _cost(self, subnet: Subnet) -> tuple[dict[str, int], bool]:
        if self.table is None:
            return {}, True
        figures = self.table.many(self.space.encode(subnet)[None])
        allowed = bool(self.constraint.allows(figures)[0])
        return {name: value[0].item() for name, value in figures.items()}, allowed

    def _keep(self, trial: Trial) -> Trial:
        self.trials.append(trial)
        self._known.setdefault(tuple(trial.subnet.choices.values()), trial)
        return trial

    def _check_failures(self) -> None:
        if len(self.trials) >= self.max_failures and all(t.score is None for t in self.trials):
            raise SearchError(
                self._failed(f"all of the first {len(self.trials)} candidates failed")
            )

    def _failed(self, what: str) -> str:
        errors = [trial.error for trial in self.trials if trial.error]
        return f"{what}; the first: {errors[0]}" if errors else what


def _from_record(record: Mapping[str, Any], subnet: Subnet) -> Trial:
    return Trial(
        number=record["trial"],
        subnet=subnet.with_figures(cost=record["cost"], scores=record["scores"]),
        score=record["score"],
        scores=record["scores"],
        cost=record["cost"],
        error=record["error"],
        seconds=record["seconds"],
    )


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
