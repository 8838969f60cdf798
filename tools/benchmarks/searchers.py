"""How many evaluations searchers need to the best architecture of a table, over many seeds.

The table (NAS-Bench-Macro, or any of the same form, see searcher_tables.py) gives the score of each
architecture; a searcher is done once it has proposed the best one within the limit. A searcher that
needs more than the most evaluations counts with one more than these.

    python tools/benchmarks/searchers.py --table nas-bench-macro_cifar10.json --seeds 100

prints one JSON line for each searcher and limit (MACs): evaluations in the median and at the
95th percentile, how many seeds did not end, and the processor's milliseconds for a proposal.
"""

import argparse
import itertools
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from razorlite.cost import Constraint
from razorlite.search import (
    AgeingEvolutionSearcher,
    Candidates,
    EvolutionSearcher,
    LocalSearcher,
    PredictorSearcher,
    RandomSearcher,
    Searcher,
    Trial,
)
from razorlite.space import ChoiceSpace

MOST = 1000
DATA = Path(os.environ.get("RAZORLITE_TEST_DATA", "."))
TABLE = DATA / "nas_bench_macro" / "nas-bench-macro_cifar10.json"
SEARCHERS: Mapping[str, Callable[[Candidates], Searcher]] = {
    "random": lambda found: RandomSearcher(candidates=found, max_trials=MOST),
    "evolution": lambda found: EvolutionSearcher(candidates=found),
    "ageing": lambda found: AgeingEvolutionSearcher(candidates=found, max_trials=MOST),
    "local": lambda found: LocalSearcher(candidates=found, max_trials=MOST),
    "predictor": lambda found: PredictorSearcher(candidates=found, max_trials=MOST),
    "predictor, batches of 4": lambda found: PredictorSearcher(
        candidates=found, max_trials=MOST, batch_size=4
    ),
}


class Table:
    """A whole space: its scores, and its costs as a model of cost.

    Args:
        entries: by a digit for each place: `mean_acc`, `flops` (MACs) and `params`.
    """

    names = ("macs", "params")

    def __init__(self, entries: Mapping[str, Mapping[str, float]]) -> None:
        points = np.array([[int(digit) for digit in name] for name in entries])
        counts = points.max(axis=0) + 1
        self.space = ChoiceSpace({f"p{i}": tuple(map(str, range(n))) for i, n in enumerate(counts)})
        self._counts = counts
        order = np.argsort(self._index(points))
        if len(points) != self.space.size:
            raise SystemExit(f"the table has {len(points)} of {self.space.size} architectures")
        columns = {"score": "mean_acc", "macs": "flops", "params": "params"}
        rows = list(entries.values())
        self._values = {
            name: np.array([rows[i][key] for i in order]) for name, key in columns.items()
        }

    def many(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Return the costs of (N, D) points."""
        return {name: self._values[name][self._index(points)] for name in self.names}

    def bounds(self) -> dict[str, tuple[float, float]]:
        """Return the least and the most of each cost."""
        return {n: (self._values[n].min().item(), self._values[n].max().item()) for n in self.names}

    def scores(self, points: np.ndarray) -> np.ndarray:
        """Return the scores of (N, D) points."""
        return self._values["score"][self._index(points)]

    def best(self, constraint: Constraint) -> float:
        """Return the best score within a constraint."""
        points = self.space.all_indices()
        return float(self.scores(points[constraint.allows(self.many(points))]).max())

    def _index(self, points: np.ndarray) -> np.ndarray:
        return np.ravel_multi_index(points.T, self._counts)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--limits", nargs="+", default=["50M", "75M", "none"], metavar="MACS")
    parser.add_argument("--searchers", nargs="+", default=list(SEARCHERS), choices=SEARCHERS)
    args = parser.parse_args()
    table = Table(json.loads(args.table.read_text()))
    for name, limit in itertools.product(args.searchers, args.limits):
        limits = {} if limit == "none" else {"macs": limit}
        constraint = Constraint.parse(limits, table)
        found = [evaluations(table, constraint, name, seed) for seed in range(args.seeds)]
        print(json.dumps({"searcher": name, "limit": limit, **summary(found)}), flush=True)


def evaluations(table: Table, constraint: Constraint, name: str, seed: int) -> tuple[int, float]:
    """Return the evaluations up to the best architecture, and the processor's seconds."""
    best, count, seconds = table.best(constraint), 0, 0.0
    found = Candidates(space=table.space, table=table, constraint=constraint, seed=seed)
    searcher = SEARCHERS[name](found)
    while count < MOST:
        start = time.process_time()
        points = searcher.ask()
        seconds += time.process_time() - start
        scores = table.scores(points) if len(points) else np.empty(0)
        if not len(points) or scores.max() >= best:
            break
        searcher.tell(trials(table, points, scores, count))
        count += len(points)
    reached = len(scores) > 0 and scores.max() >= best
    return count + int(scores.argmax()) + 1 if reached else MOST + 1, seconds / max(count, 1)


def trials(table: Table, points: np.ndarray, scores: np.ndarray, first: int) -> list[Trial]:
    """Return what a study would tell."""
    subnets = [table.space.decode(point) for point in points]
    numbered = enumerate(zip(subnets, scores.tolist(), strict=True), first)
    return [Trial(number=n, subnet=subnet, values=(score,)) for n, (subnet, score) in numbered]


def summary(found: list[tuple[int, float]]) -> dict[str, float]:
    """Return the median and 95th percentile of evaluations, and the time of a proposal."""
    counts = np.array([count for count, _ in found])
    return {
        "median": float(np.median(counts)),
        "p95": float(np.quantile(counts, 0.95)),
        "unfinished": int((counts > MOST).sum()),
        "ms_per_proposal": round(1000 * float(np.mean([seconds for _, seconds in found])), 2),
    }


if __name__ == "__main__":
    main()
