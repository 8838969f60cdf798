"""Points of a space as one would choose them by hand: the same everywhere."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from razorlite.recipes.fronts import front_cost, spread
from razorlite.search import (
    Candidates,
    FixedSearcher,
    ProcessWorkers,
    RememberingWorkers,
    SearchError,
    Study,
    SupernetScore,
    Trial,
    Workers,
)
from razorlite.space import ChoiceSpace

MOST = 8  # budgets that are looked at, spread over the front


def even_points(space: ChoiceSpace) -> np.ndarray:
    """Return (N, D) points in which all dimensions have about the same share of their values.

    Numbers go down together from the largest to the smallest, each step in one dimension, the last
    one first; operations are the same at all places, or the first one where that is not among
    them: each of them has its points, one after the other.
    """
    levels, chosen = list(_levels(space)), list(_operations(space))
    found = [_ordered(space, level, names) for names in chosen for level in levels]
    points = space.canonical(np.array(found, dtype=np.int64).reshape(-1, len(space.counts)))
    _, first = np.unique(points, axis=0, return_index=True)
    kept: np.ndarray = points[np.sort(first)]
    return kept


def _levels(space: ChoiceSpace) -> Iterator[list[int]]:
    """Yield for each dimension how many values lie below, in steps of one."""
    level = [len(d.values) - 1 for d in space.dimensions]
    numbers = [i for i, d in enumerate(space.dimensions) if d.numeric]
    yield list(level)
    steps = [(k / level[i], -i) for i in numbers for k in range(1, level[i] + 1)]
    for _, negative in sorted(steps):
        level[-negative] -= 1
        yield list(level)


def _operations(space: ChoiceSpace) -> Iterator[Mapping[str, int]]:
    """Yield for each operation the index that each dimension of operations has."""
    texts = [d for d in space.dimensions if not d.numeric]
    names = dict.fromkeys(value for d in texts for value in d.values)
    for name in names or [""]:
        yield {d.name: d.values.index(name) if name in d.values else 0 for d in texts}


def _ordered(space: ChoiceSpace, level: Sequence[int], names: Mapping[str, int]) -> list[int]:
    """Return the indices of values, given how many lie below and the operations."""
    order = [np.argsort(d.values) if d.numeric else None for d in space.dimensions]
    return [
        names[d.name] if ranks is None else int(ranks[below])
        for d, ranks, below in zip(space.dimensions, order, level, strict=True)
    ]


def even_within(study: Study, cost: str, budgets: Sequence[float]) -> np.ndarray:
    """Return the costliest even points within each budget, each once, (N, D).

    Where operations are chosen, there is one for each of them.

    Args:
        study: the search, whose costs count.
        cost: kind that the budgets are of.
        budgets: of some points; `MOST` at most are looked at.
    """
    points = even_points(study.space)
    spent = np.asarray(study.feasible.costs(points)[cost], dtype=np.float64)
    kinds = np.array([_kind(study.space, point) for point in points])
    found: set[int] = set()
    for budget in spread(sorted(set(budgets)), MOST):
        for kind in np.unique(kinds):
            fits = np.flatnonzero((kinds == kind) & (spent <= budget * (1 + 1e-9)))
            found |= {int(fits[spent[fits].argmax()])} if len(fits) else set()
    return points[sorted(found)]


def _kind(space: ChoiceSpace, point: np.ndarray) -> str:
    pairs = zip(space.dimensions, point.tolist(), strict=True)
    return " ".join(str(d.values[i]) for d, i in pairs if not d.numeric)


def even_name(study: Study, trial: Trial) -> str:
    """Return what an even point is called: "even: 62.0% of the largest's macs".

    Where operations are chosen they are named: "even, conv3x3: 40.0% of ...".

    Args:
        study: the search, one of whose counted costs its front is drawn against.
        trial: the scored point.
    """
    cost, table = str(front_cost(study)), study.feasible.table
    assert table is not None
    kind = " ".join(dict.fromkeys(_kind(study.space, study.space.encode(trial.subnet)).split()))
    share = float(trial.cost[cost]) / float(table.bounds()[cost][1])
    return f"even{', ' if kind else ''}{kind}: {share:.1%} of the largest's {cost}"


def scored_points(
    study: Study, score: SupernetScore, workers: Workers | None, points: np.ndarray
) -> list[Trial]:
    """Score points as the search's candidates were, whatever they cost; without those that fail.

    Args:
        study: the search.
        score: of its candidates, on all images.
        workers: where candidates are scored.
        points: (N, D).
    """
    table = study.feasible.table
    candidates = Candidates(space=study.space, table=table)
    scoring = Study(
        searcher=FixedSearcher(candidates, points),
        score=score,
        metric=dict(study.objectives.directions),
        max_failures=len(points) + 1,
        workers=RememberingWorkers.of(workers or ProcessWorkers(), study.trials),
    )
    try:
        scoring.run()
    except SearchError:
        if len(scoring.trials) < len(points):  # not the candidates' own fault
            raise
    return scoring.scored
