"""Which subnets are trained after a search, and beside them the detector scaled by hand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from razorlite.core.config import Config
from razorlite.core.errors import BudgetError
from razorlite.cost import Constraint, FactoredCost, Limit
from razorlite.prune import Paired, Stopwatch
from razorlite.recipes.by_hand import even_name, scored_points
from razorlite.recipes.costing import models_of
from razorlite.recipes.fronts import front_cost, front_trials, point_of, spread
from razorlite.recipes.scaled_by_hand import (
    Allowance,
    Scaled,
    WithinMacs,
    WithinTime,
    scaled_by_hand,
)
from razorlite.search import Candidates, RetrainingConfig, Study, SupernetScore, Trial, Workers
from razorlite.space import ChoiceSpace, SearchSpace, Subnet

Kind = Literal["chosen", "front", "random", "across", "even", "by hand"]
_NEAR = (0.05, 0.1, 0.2)  # shares that random subnets may cost less than the chosen one
_DRAWN = 4000  # points that those across the space are taken from


@dataclass(frozen=True)
class Contender:
    """What is trained, with one seed or several.

    Attributes:
        name: of the table's row.
        kind: why it is trained.
        subnet: choices, and channels where it is scaled by hand.
        cost: such as macs and params.
        score: of the supernet, more is better; None of what is no subnet of it.
        seeds: how many trainings.
        overrides: what the configuration needs besides.
        weights: to inherit, where they are not those of the subnet's path.
        even: whether the search found what one would have chosen by hand.
        time: of one image, beside the largest subnet; None where it was not measured.
    """

    name: str
    kind: Kind
    subnet: Subnet
    cost: Mapping[str, int | float]
    score: float | None = None
    seeds: int = 1
    overrides: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)
    even: bool = False
    time: Paired | None = None


def contenders(
    study: Study,
    score: SupernetScore,
    workers: Workers | None,
    settings: RetrainingConfig,
    even: Sequence[Trial],
) -> list[Contender]:
    """Return the chosen subnet, others of the front, random, across the space, and even.

    Those of the front cost what others are scaled by hand to. Even ones that are the chosen one
    or of the front are there once.

    All ranks call it, and find the same; those that the search has not scored are scored.

    Args:
        study: the search.
        score: of its candidates.
        workers: where candidates are scored.
        settings: how many there are.
        even: scored even subnets.
    """
    near, cost = _near(study, settings.random), front_cost(study)
    far = across(study, cost, settings.across) if cost in study.feasible.names else near[:0]
    found = scored_points(study, score, workers, np.concatenate([near, far]))
    drawn = {study.space.encode(trial.subnet).tobytes(): trial for trial in found}
    groups: dict[Kind, np.ndarray] = {"random": near, "across": far}
    chosen = [
        _contender(f"{kind} {number}", kind, drawn[point.tobytes()])
        for kind, points in groups.items()
        for number, point in enumerate(points, start=1)
        if point.tobytes() in drawn
    ]
    first = _contender("chosen", "chosen", study.best, settings.seeds)
    front = [
        _contender(f"front {trial.number}", "front", trial)
        for trial in budgets(study, settings.by_hand)[1:]
    ]
    own, alike = [first, *front], _best_even(study, even, settings.by_hand)
    return [
        *(replace(one, even=_among(one, alike)) for one in own),
        *chosen,
        *(one for one in alike if not _among(one, own)),
    ]


def _among(one: Contender, others: Sequence[Contender]) -> bool:
    return any(one.subnet.choices == other.subnet.choices for other in others)


def _contender(name: str, kind: Kind, trial: Trial, seeds: int = 1) -> Contender:
    return Contender(name, kind, trial.subnet, trial.cost, trial.values[0], seeds)


def _near(study: Study, count: int) -> np.ndarray:
    """Return (N, D) random points that cost about what the chosen subnet costs, others than it."""
    cost, given = front_cost(study), study.searcher.candidates
    shares = _NEAR if cost in study.feasible.names else ()
    for limits in [*(_window(study, str(cost), share) for share in shares), study.constraint]:
        candidates = Candidates(
            space=study.space, table=given.table, constraint=limits, seed=given.seed + 1
        )
        candidates.seen.add(study.space.encode(study.best.subnet))
        try:
            points = candidates.random(count)
        except BudgetError:
            continue
        if len(points) == count or limits is study.constraint:
            return points
    return given.stacked([])


def _window(study: Study, cost: str, share: float) -> Constraint:
    high = float(study.best.cost[cost])
    return Constraint((*study.constraint.limits, Limit(cost, high * (1 - share), high)))


def across(study: Study, cost: str | None, count: int) -> np.ndarray:
    """Return (N, D) points whose costs are spread evenly over the range of the space."""
    seed = study.searcher.candidates.seed + 2
    return points_across(study.space, lambda p: study.feasible.costs(p)[str(cost)], count, seed)


def points_across(
    space: ChoiceSpace, cost: Callable[[np.ndarray], np.ndarray], count: int, seed: int
) -> np.ndarray:
    """Return points whose costs are spread evenly over the range of a space, without its ends.

    Points are drawn between random ones and the largest or the smallest: uniform ones alone all
    cost about the same.

    Args:
        space: of the points.
        cost: (N, D) points to (N,) costs.
        count: how many points are looked for.
        seed: of what is drawn.

    Returns:
        (N, D), the cheapest first; fewer than `count` where one is nearest to several costs.
    """
    rng = np.random.default_rng(seed)
    drawn = space.random_indices(rng, _DRAWN)
    spent = cost(drawn)
    for end in (drawn[spent.argmin()], drawn[spent.argmax()]):
        taken = rng.random((_DRAWN, drawn.shape[1])) < rng.uniform(0, 1, (_DRAWN, 1))
        drawn = np.concatenate([drawn, np.where(taken, end, drawn[:_DRAWN])])
    points = space.canonical(drawn)
    costs = np.asarray(cost(points), dtype=np.float64)
    targets = np.linspace(costs.min(), costs.max(), count + 2)[1:-1]
    nearest = dict.fromkeys(int(np.abs(costs - target).argmin()) for target in targets)
    return points[list(nearest)]


def _best_even(study: Study, even: Sequence[Trial], count: int) -> list[Contender]:
    """Return the even subnet that the supernet scores best within each of a few budgets."""
    cost, found = front_cost(study), {}
    for budget in budgets(study, count) if cost in study.feasible.names else []:
        fit = [trial for trial in even if trial.cost[str(cost)] <= budget.cost[str(cost)]]
        if fit:
            best = max(fit, key=lambda trial: (trial.values[0], -trial.number))
            found[best.number] = best
    return [_contender(even_name(study, trial), "even", trial) for trial in found.values()]


def budgets(study: Study, count: int) -> list[Trial]:
    """Return so many trials of the front at whose costs others are scaled; the chosen one first."""
    cost = front_cost(study)
    if not count or cost is None:
        return []
    best = study.best
    cheaper = [
        t for t in front_trials(study) if point_of(study, t, cost) < point_of(study, best, cost)
    ]
    return [best, *spread(cheaper, count - 1)]


def timed(some: Sequence[Contender], space: SearchSpace, stopwatch: Stopwatch) -> list[Contender]:
    """Return contenders, with times of those that a detector scaled by hand is compared with.

    Args:
        some: as `contenders` returns them.
        space: of the supernet.
        stopwatch: measures beside the largest subnet.
    """

    def time(one: Contender) -> Paired:
        return stopwatch.beside(space.export(one.subnet), dict(one.subnet.choices))

    with space.kept_path():
        return [
            replace(one, time=time(one)) if one.kind in ("chosen", "front", "even") else one
            for one in some
        ]


def by_hand(
    study: Study,
    score: SupernetScore,
    config: Config,
    shape: tuple[int, int],
    rivals: Sequence[Contender],
    stopwatch: Stopwatch | None = None,
) -> tuple[list[Contender], list[str]]:
    """Return the largest path scaled by hand as cheap as some subnets, and what is left out, why.

    Args:
        study: the search.
        score: of its candidates.
        config: that subnets are trained with.
        shape: height and width in pixels that costs are stated for.
        rivals: the subnets; where these were timed, it takes no more time, else no more MACs.
        stopwatch: that they were timed by.
    """
    largest = _largest(study)
    if largest is None:
        return [], ["the largest subnet is not known without MACs"]
    with score.space.kept_path():
        whole = score.space.export(largest).cpu()
    found: dict[str, Scaled] = {}
    reasons: list[str] = []
    for one in rivals:
        ways, why = scaled_by_hand(whole, largest, config, shape, _allowance(one, stopwatch))
        found |= {one.name: one for one in ways}
        reasons += why
    return [_scaled(one) for one in found.values()], reasons


def _allowance(one: Contender, stopwatch: Stopwatch | None) -> Allowance:
    if stopwatch is None or one.time is None:
        return WithinMacs(float(one.cost["macs"]))
    return WithinTime(one.time.share, stopwatch)


def _scaled(one: Scaled) -> Contender:
    return Contender(
        one.name,
        "by hand",
        one.subnet,
        one.cost,
        overrides=one.overrides,
        weights=one.weights,
        time=one.time,
    )


def _largest(study: Study) -> Subnet | None:
    """Return the subnet with the most MACs; None where these are not counted."""
    tables = [m for m in models_of(study.feasible.table) if isinstance(m, FactoredCost)]
    table = next((m for m in tables if "macs" in m.names), None)
    return None if table is None else table.largest("macs")
