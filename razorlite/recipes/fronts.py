"""What a search leaves of the candidates that no other beats: files and weights to use."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from razorlite.core.files import make_folder
from razorlite.core.progress import progress
from razorlite.engine.checkpoint import save_checkpoint
from razorlite.search import Study, SupernetScore, Trial
from razorlite.search.pareto import pareto_front
from razorlite.space import Subnet

T = TypeVar("T")
_log = logging.getLogger("razorlite")


def front_cost(study: Study) -> str | None:
    """Return the cost that a front is drawn against; None where none is known.

    Another objective that is to be small, the cost that is limited, or MACs.
    """
    directions = list(study.objectives.directions.items())
    small = [name for name, direction in directions[1:] if direction == "min"]
    limited = [limit.name for limit in study.constraint.limits]
    known = sorted(study.feasible.names, key=lambda name: name != "macs")
    return next(iter([*small, *limited, *known]), None)


def point_of(study: Study, trial: Trial, cost: str) -> tuple[float, float]:
    """Return a scored trial's cost and the value of its first objective, more is better."""
    known = {**trial.cost, **study.objectives.measured(trial.values)}
    return float(known[cost]), trial.values[0]


def front_trials(study: Study) -> list[Trial]:
    """Return the trials that no other beats, cheapest first.

    By all objectives; where there is one, by it and the cost of `front_cost`.
    """
    cost = front_cost(study)
    if cost is None:
        return [study.best]
    scored = study.scored
    points = [point_of(study, trial, cost) for trial in scored]
    chosen = study.front
    if len(study.objectives) == 1:
        chosen = [scored[i] for i in pareto_front([(value, -spent) for spent, value in points])]
    return sorted(chosen, key=lambda trial: (point_of(study, trial, cost)[0], trial.number))


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return at most so many of some items, evenly, the ends among them; if one, the middle."""
    if len(items) <= count:
        return list(items)
    if count < 2:
        return list(items[len(items) // 2 :][:count])
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def write_front(
    study: Study,
    folder: Path,
    score: SupernetScore,
    named: Callable[[Trial], Subnet],
    meta: Callable[[Subnet], dict[str, object]],
) -> list[Path]:
    """Write `NN-trial_N.yaml` and the weights `NN-trial_N.pt` of all trials on the front.

    Weights are the supernet's with norms recalibrated, as the trial was scored. Files of a front
    before are removed.

    Args:
        study: the search.
        folder: where they go.
        score: of the supernet.
        named: trial to its subnet, which says where it is from.
        meta: subnet to what its checkpoint says of it.

    Returns:
        The subnet files, cheapest first.
    """
    make_folder(folder)
    for path in [*folder.glob("*trial_*.yaml"), *folder.glob("*-trial_*.pt")]:
        path.unlink()
    files = []
    with score.space.kept_path():
        front = front_trials(study)
        shown = progress(front, "subnets of the front written", len(front))
        for number, trial in enumerate(shown, start=1):
            path = folder / f"{number:02}-trial_{trial.number}.yaml"
            subnet = named(trial)
            subnet.save(path)
            score.prepare(subnet)
            weights = {k: v.cpu() for k, v in score.space.export(subnet).state_dict().items()}
            save_checkpoint(path.with_suffix(".pt"), {"model": weights, "meta": meta(subnet)})
            files.append(path)
    return files
