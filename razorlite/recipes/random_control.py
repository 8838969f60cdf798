"""The control of a search: as many random candidates, scored in the same way."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from razorlite.recipes.fronts import front_cost, front_trials, point_of
from razorlite.recipes.search_end import TrialLog
from razorlite.recipes.trust import Scored, compared, difference
from razorlite.search import (
    Candidates,
    ExhaustiveSearcher,
    ProcessWorkers,
    RandomSearcher,
    RememberingWorkers,
    SearchError,
    Study,
    SupernetScore,
    Trial,
    Workers,
)

_log = logging.getLogger("razorlite")
_ENDLESS = 1_000_000  # proposals; the study ends it


def random_control(
    study: Study, score: SupernetScore, folder: Path, workers: Workers | None
) -> Study | None:
    """Score as many random candidates as a finished search has scored.

    They are drawn within the same constraint by the search's seed, so that a searcher which starts
    with random candidates and its control start with the same ones: what both have in common tells
    nothing for either. Candidates that the search has scored are not scored again.

    Args:
        study: the search.
        score: of its candidates.
        folder: run folder; gets control.jsonl, from which it goes on.
        workers: where candidates are scored, as in the search.

    Returns:
        The finished study of the control; None where the search itself is random or exhaustive, or
        no random candidate could be scored.
    """
    searcher, count = study.searcher, len(study.trials)
    if isinstance(searcher, RandomSearcher | ExhaustiveSearcher):
        return None
    took = sum(trial.seconds for trial in study.trials)
    _log.info(
        "the control: %d random candidates are scored in the same way, but those that are known "
        "(at most %.0f s; search.random_control=false leaves this out)", count, took,
    )  # fmt: skip
    control = _control(study, score, folder, workers or ProcessWorkers())
    try:
        control.run(resume=True)
    except SearchError as error:
        if control.trials and not control.scored:
            _log.warning("there is no control: %s", error)
            return None
        raise
    return control


def _control(study: Study, score: SupernetScore, folder: Path, workers: Workers) -> Study:
    given = study.searcher.candidates
    candidates = Candidates(
        space=study.space, table=given.table, constraint=study.constraint, seed=given.seed
    )
    return Study(
        searcher=RandomSearcher(
            candidates=candidates,
            max_trials=_ENDLESS,
            batch_size=study.searcher.batch_size or RandomSearcher.batch_size,
        ),
        score=score,
        journal=folder / "control.jsonl",
        metric=dict(study.objectives.directions),
        settings=study.settings,
        max_trials=len(study.trials),
        workers=RememberingWorkers.of(workers, study.trials),
        elastic=study.elastic,
        progress=TrialLog("random candidate"),
    )


@dataclass(frozen=True)
class Gain:
    """How much better the best of a search is than that of its control.

    Attributes:
        name: of the first objective.
        best: the search's best.
        control: the control's best.
        count: random candidates.
        beaten: points of the search's front that a random candidate beats.
        front: points of that front.
    """

    name: str
    best: Scored
    control: Scored
    count: int
    beaten: int
    front: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        gain, ends = difference(self.best, self.control)
        return {
            "evaluations": self.count,
            "control_trial": self.control.trial.number,
            "control_value": self.control.trial.values[0],
            "gain": gain,
            "gain_interval": list(ends),
            "front_points": self.front,
            "front_points_beaten": self.beaten,
        }

    def __str__(self) -> str:
        verdict, gain = compared(self.name, self.best, self.control)
        return (
            f"The best of the search {verdict} the best of {self.count} random candidates, as far "
            f"as the images tell: {gain}; {self.beaten} of the {self.front} points of its front "
            f"are beaten by a random candidate."
        )


def gain_of(study: Study, control: Study, best: Scored, other: Scored) -> Gain:
    """Compare a search with its control.

    Args:
        study: the search.
        control: as many random candidates.
        best: the search's best.
        other: the control's best, on the same draws.
    """
    front = front_trials(study)
    beaten = sum(any(_beats(study, one, point) for one in control.scored) for point in front)
    return Gain(study.objectives.first, best, other, len(control.trials), beaten, len(front))


def _beats(study: Study, one: Trial, other: Trial) -> bool:
    """Return whether a trial is as good in all and better in one, cost included."""
    ours, theirs = _values(study, one), _values(study, other)
    return ours != theirs and all(a >= b for a, b in zip(ours, theirs, strict=True))


def _values(study: Study, trial: Trial) -> tuple[float, ...]:
    cost = front_cost(study)
    if len(study.objectives) > 1 or cost is None:
        return trial.values
    return (*trial.values, -point_of(study, trial, cost)[0])


def control_row(gain: Gain) -> dict[str, Any]:
    """Return what the report's table says of the control's best."""
    note = f"the best of {gain.count} random candidates, by the same supernet and images"
    return {"name": "random control", "note": note}
