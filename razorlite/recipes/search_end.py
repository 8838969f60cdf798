"""What a search tells while it runs, and what it leaves when it is done."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from razorlite.core.progress import progress_text
from razorlite.core.streams import results
from razorlite.cost import cost_text
from razorlite.recipes.fronts import write_front
from razorlite.recipes.pictures import or_warn, search_pictures
from razorlite.search import ElasticResult, Study, SupernetScore, Trial
from razorlite.space import Subnet

_log = logging.getLogger("razorlite")


@dataclass(frozen=True)
class SearchEnd:
    """What a search writes when it is done.

    Attributes:
        folder: run folder.
        chosen: the best subnet.
        named: trial to its subnet, which says where it comes from.
        score: of its candidates.
        meta: subnet to what a checkpoint says of it.
    """

    folder: Path
    chosen: Subnet
    named: Callable[[Trial], Subnet]
    score: SupernetScore
    meta: Callable[[Subnet], dict[str, Any]]

    def write(self, study: Study) -> None:
        """Write the best subnet, the front and pictures."""
        subnet, folder = self.chosen, self.folder
        subnet.save(folder / "subnet.yaml")
        files = write_front(study, folder / "front", self.score, self.named, self.meta)
        or_warn(lambda: search_pictures(study, folder))
        _tell_front(study, files)
        _tell_best(study, subnet, folder)


class TrialLog:
    """Logs what came of each trial of a search, the best so far, and how long the rest will take.

    Args:
        name: what a trial is called.
    """

    def __init__(self, name: str = "trial") -> None:
        self._name = name
        self._study: Study | None = None
        self._before = 0  # trials of the study that were scored in earlier sittings
        self._start = self._last = time.monotonic()

    def __call__(self, study: Study, trial: Trial) -> None:
        """Log a trial that was just scored."""
        if study is not self._study:  # it began where the one before ended
            self._study, self._before, self._start = study, trial.number, self._last
        self._last = time.monotonic()
        best = _first(study, study.best) if study.scored else None
        _log.info(
            "%s %d: %s%s; best %s%s",
            self._name,
            trial.number,
            trial.error or _values(study, trial),
            "".join(f", {text}" for text in _costs(study, trial.cost)),
            "none yet" if best is None else f"{best:.4f}",
            self._left(study, trial.number + 1),
        )

    def _left(self, study: Study, done: int) -> str:
        """Return how long the rest will take, by the trials that were scored in this sitting."""
        known = (study.max_trials, study.searcher.total)
        total = min((n for n in known if n is not None), default=None)
        if total is None:
            return ""
        scored = done - self._before
        seconds = (self._last - self._start) / scored * done
        return f"; {progress_text(done, 'trials', total, seconds)}"


def _first(study: Study, trial: Trial) -> float:
    """Return a trial's first objective as it was measured."""
    return study.objectives.measured(trial.values)[study.objectives.first]


def _values(study: Study, trial: Trial) -> str:
    """Return a trial's objectives as they are logged; costs are logged apart."""
    if not trial.promoted:
        measured = study.objectives.measured(trial.first_values)
        return f"{_named(trial, measured)} on {trial.images} images, not promoted"
    return _named(trial, study.objectives.measured(trial.values))


def _named(trial: Trial, measured: Mapping[str, float]) -> str:
    names = [name for name in measured if name not in trial.cost] or list(measured)
    return ", ".join(f"{name} {measured[name]:.4f}" for name in names)


def _tell_front(study: Study, files: Sequence[Path]) -> None:
    results.info(
        "%d trials are beaten by no other in %s: %s", len(files),
        study.objectives if len(study.objectives) > 1 else f"{study.objectives} and cost",
        files[0].parent,
    )  # fmt: skip


def _tell_best(study: Study, subnet: Subnet, folder: Path) -> None:
    failed = sum(trial.error is not None for trial in study.trials)
    metrics = [f"{name} {value:.4f}" for name, value in list(subnet.scores.items())[:2]]
    results.info(
        "best of %d trials%s: %s; written to %s",
        len(study.trials),
        f" ({failed} of them failed)" if failed else "",
        ", ".join([*metrics, *_costs(study, subnet.cost)]),
        folder / "subnet.yaml",
    )
    if study.elastic is not None:
        results.info("%s", ElasticResult.of(study.trials, study.elastic))


def _costs(study: Study, cost: Mapping[str, int | float]) -> list[str]:
    """Return costs as they are printed, those that are limited first."""
    names = [limit.name for limit in study.constraint.limits]
    return [cost_text(name, cost[name]) for name in dict.fromkeys([*names, *cost])]
