"""What a search tells while it runs, and what it leaves when it is done."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def log_trial(study: Study, trial: Trial) -> None:
    """Log what came of a trial, and the best so far."""
    best = _first(study, study.best) if study.scored else None
    _log.info(
        "trial %d: %s%s; best %s",
        trial.number,
        trial.error or _values(study, trial),
        "".join(f", {text}" for text in _costs(study, trial.cost)),
        "none yet" if best is None else f"{best:.4f}",
    )


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
