"""A budget of milliseconds: what was found is timed, and the search goes on where that is off."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from razorlite.core.errors import BudgetError
from razorlite.core.journal import Journal
from razorlite.cost import Constraint, CorrectedCost, CostModel, JoinedCost, LatencyTable
from razorlite.engine.run_folder import on_main
from razorlite.prune import Stopwatch
from razorlite.recipes.costing import models_of
from razorlite.search import Feasible, Study, Trial
from razorlite.search.embedding import Embedding
from razorlite.search.gaussian import GaussianProcess
from razorlite.space import SearchSpace, Subnet

_log = logging.getLogger("razorlite")
_OFF = 0.05  # of the prediction
_MARGIN = 0.02  # by which the limit is lowered for each subnet that took longer than allowed
Again = Callable[[int, CostModel, Constraint, Sequence[Trial]], Study]


@dataclass(frozen=True)
class Timed:
    """The best subnet of a study, timed.

    Attributes:
        study: that found it.
        trial: the subnet.
        record: of the timing: ms, whole_ms, share, ...
        predicted: its share of the largest subnet's time, before it was timed.
        most: the greatest share that is allowed.
    """

    study: Study
    trial: Trial
    record: Mapping[str, Any]
    predicted: float
    most: float

    @property
    def share(self) -> float:
        """Its share of the largest subnet's time, measured in turns."""
        return float(self.record["share"])

    @property
    def is_allowed(self) -> bool:
        """Whether it takes no more than is allowed."""
        return self.share <= self.most

    @property
    def is_met(self) -> bool:
        """Whether it is allowed, and takes what was predicted."""
        return self.is_allowed and abs(self.share / self.predicted - 1) <= _OFF

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """What several are compared by, more is better."""
        value = self.trial.values[0] if self.is_allowed else -self.share
        return self.is_met, self.is_allowed, value

    def tell(self) -> None:
        """Log what was measured and predicted."""
        _log.info(
            "latency: the subnet takes %.1f ms, %.1f%% of the largest's time (%s, %s thread(s)); "
            "%.1f%% were predicted",
            self.record["ms"],
            100 * self.share,
            self.record["runtime"],
            self.record["threads"],
            100 * self.predicted,
        )

    def warn(self) -> None:
        """Warn where it is above the limit, or off the prediction."""
        if self.is_met:
            return
        off = f"{abs(self.share / self.predicted - 1):.1%} off what was predicted"
        over = f"{self.share:.1%} of the largest's time, {self.most:.1%} are allowed"
        _log.warning(
            "latency: %s: measure the table again when the machine is quiet, or with more rounds, "
            "or lower the limit", off if self.is_allowed else over,
        )  # fmt: skip


class LatencyRounds:
    """Times what a search has found; corrects predictions and searches on where these are off.

    How far predictions are off depends on the subnet: a Gaussian process learns the logarithms of
    measured by predicted shares, so that a subnet is corrected most by what those like it took.
    After each subnet that took longer than is allowed the limit is lowered by 2 %. Each timing is
    a line of latency.jsonl, which a resumed search takes over; no subnet is timed twice.

    Args:
        space: of the supernet.
        costs: what candidates cost.
        folder: run folder.
        rounds: how often the search goes on, at most.
        again: number of the search from 2, costs, constraint and all trials so far to a study that
            is done.
    """

    def __init__(
        self, space: SearchSpace, costs: CostModel, folder: Path, rounds: int, again: Again
    ) -> None:
        self.space, self.costs, self.rounds, self.again = space, costs, rounds, again
        self._journal = Journal(folder / "latency.jsonl")
        tables = [m for m in models_of(costs) if isinstance(m, LatencyTable) and m.timer]
        self.table = tables[0] if tables else None

    def run(self, study: Study) -> tuple[Study, dict[str, Any]]:
        """Return the study whose best subnet is to be taken, and what its timing has given.

        Without a table that names how latency is measured, it is the first one, and nothing.
        """
        if self.table is None:
            return study, {}
        highs = [lim.high for lim in study.constraint.limits if lim.name == self._name]
        most = min(highs, default=math.inf) / self._whole
        timed: list[Timed] = []
        current: Study | None = study
        while current is not None:
            timed.append(self._timed(current, most))
            timed[-1].tell()
            current = self._next(timed)
        best = max(timed, key=lambda one: one.rank)
        best.warn()
        predicted = {"predicted_ms": best.trial.cost[self._name], "predicted_share": best.predicted}
        return best.study, {**best.record, **predicted, "searches": len(timed)}

    def stopwatch(self, study: Study) -> Stopwatch | None:
        """Return what times models beside the largest subnet.

        Args:
            study: of the search.

        Returns:
            None where milliseconds are neither limited nor an objective.
        """
        named = {*(limit.name for limit in study.constraint.limits), *study.objectives.names}
        return self._stopwatch if self.table is not None and self._name in named else None

    @cached_property
    def _stopwatch(self) -> Stopwatch:
        assert self.table is not None
        assert self.table.timer is not None
        found = Stopwatch(self.space.export(self._largest), self.table.timer)
        found.remember(self._journal)
        on_main(lambda: found.write_to(self._journal))
        return found

    def _next(self, timed: Sequence[Timed]) -> Study | None:
        """Search on with corrected predictions; None where that is not needed, or not possible."""
        last = timed[-1]
        if last.is_met or len(timed) > self.rounds or last.most == math.inf:
            return None
        over = sum(not one.is_allowed for one in timed)
        number, trials = len(timed) + 1, [t for one in timed for t in one.study.trials]
        _log.info(
            "latency: predictions are corrected by what %d subnet(s) took, and the search goes "
            "on, in journal-%d.jsonl", len(timed), number,
        )  # fmt: skip
        constraint = self._tighter(timed[0].study.constraint, 1 - _MARGIN * over)
        try:
            return self.again(number, self._corrected(timed), constraint, trials)
        except BudgetError as error:
            _log.warning("latency: no subnet meets the corrected budget: %s", error)
            return None

    def _tighter(self, constraint: Constraint, share: float) -> Constraint:
        name = self._name
        limits = [
            replace(limit, high=limit.high * share) if limit.name == name else limit
            for limit in constraint.limits
        ]
        return Constraint(tuple(limits))

    def _corrected(self, timed: Sequence[Timed]) -> CostModel:
        """Return the costs, the table's corrected by the subnets that were timed."""
        off = [0.0, *(math.log(one.share / self._share(one.trial.subnet)) for one in timed)]
        subnets = [self._largest, *(one.trial.subnet for one in timed)]
        process = GaussianProcess(Embedding.of(self.space, Feasible()))
        process.condition(np.stack([self._point(subnet) for subnet in subnets]), np.array(off))
        return JoinedCost(
            [
                CorrectedCost(m, lambda points: np.exp(process.predict(points)[0]))
                if m is self.table
                else m
                for m in models_of(self.costs)
            ]
        )

    def _timed(self, study: Study, most: float) -> Timed:
        """Time a study's best subnet in turns with the largest one, as they are shipped."""
        trial = study.best
        choices = dict(trial.subnet.choices)
        record = self._stopwatch.record(self.space.export(trial.subnet), choices)
        predicted = float(trial.cost[self._name]) / self._whole
        return Timed(study, trial, record, predicted, most)

    @property
    def _name(self) -> str:
        assert self.table is not None
        return self.table.names[0]

    @property
    def _largest(self) -> Any:
        assert self.table is not None
        return self.table.sums.largest(self._name)

    @property
    def _whole(self) -> float:
        """Milliseconds of the largest subnet, as the table has them."""
        return self._milliseconds(self._largest)

    def _share(self, subnet: Subnet) -> float:
        """Return a subnet's share of the largest one's time, as the table predicts it."""
        return self._milliseconds(subnet) / self._whole

    def _milliseconds(self, subnet: Subnet) -> float:
        assert self.table is not None
        return float(self.table.many(self._point(subnet)[None])[self._name][0])

    def _point(self, subnet: Subnet) -> np.ndarray:
        return self.space.encode(self.space.resolve(subnet))
