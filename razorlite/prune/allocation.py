"""How many units each block keeps: the sizes that rounding allows, and which of them to take."""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from razorlite.core.errors import BudgetError
from razorlite.cost import Constraint, CostModel, JoinedCost, Limit
from razorlite.prune.budget import SlimCost
from razorlite.prune.memory import MemoryCost
from razorlite.trace import Block

Strategy = Literal["global", "local", "uniform"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


@dataclass(frozen=True)
class Ladder:
    """The sizes that one block of a group can take.

    Attributes:
        group: name of the group.
        start: number of the group's first unit among the units of all prunable groups.
        order: the block's units, those to keep first at the front.
        scores: their scores, in that order.
        rungs: how many units may be kept, rising; the last is all.
    """

    group: str
    start: int
    order: NDArray[np.int64]
    scores: NDArray[np.float64]
    rungs: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many units there are."""
        return len(self.order)

    def rung(self, count: float) -> int:
        """Return the place of the highest rung that keeps at most `count` units, or 0."""
        return max(0, int(np.searchsorted(self.rungs, count, side="right")) - 1)

    @cached_property
    def held(self) -> NDArray[np.float64]:
        """(size + 1,) shares of the importance that the first 0, 1, ... units hold."""
        finite = self.scores[np.isfinite(self.scores)]
        scores = np.where(np.isfinite(self.scores), self.scores, finite.max(initial=1.0))
        sums = np.cumsum(scores if scores.sum() > 0 else np.ones(self.size))
        return np.append(0.0, sums / sums[-1])

    def units(self, low: int, high: int) -> NDArray[np.int64]:
        """Return the units, numbered over all groups, between two counts."""
        return self.start + self.order[low:high]


def ladder(
    group: str,
    block: Block,
    *,
    start: int,
    scores: NDArray[np.float64],
    round_to: int,
    least: int,
) -> Ladder:
    """Return the sizes a block can take.

    The channels of every layer that is kept smaller are a multiple of `round_to`. A block that
    shares a layer with other blocks loses multiples of it, so that the layer's sum stays one.

    Args:
        group: name of the block's group.
        block: units that lie on the same layers.
        start: number of the group's first unit.
        scores: (len(block.units),) importance.
        round_to: channels that a kept number is a multiple of.
        least: units to keep at least.
    """
    size = len(block.units)
    order = np.lexsort((np.arange(size), -scores))
    step = math.lcm(*(round_to // math.gcd(round_to, n) for n in block.channels))
    rest = size % step if block.spanned else 0
    first = max(1, least) - rest
    first = max(math.ceil(first / step), 0 if rest else 1) * step + rest
    rungs = (*range(first, size, step), size)
    return Ladder(group, start, np.array(block.units)[order], scores[order], rungs)


def allocate(
    ladders: Sequence[Ladder], cost: SlimCost, limits: Sequence[Limit], strategy: Strategy
) -> list[int]:
    """Return how many units each block keeps, as near to the limits as rounding allows.

    "global" drops the units with the lowest scores of all; "local" keeps of every group the fewest
    units that hold the same share of its importance; "uniform" keeps the same share of every
    group. What rounding leaves of the budget then goes to single groups, step by step,
    until no group can grow any more.

    Raises:
        BudgetError: the limits cannot be met; the message names the reachable range.
    """
    search = _Search(ladders, cost, limits)
    search.check_reachable()
    stages, rank = _STRATEGIES[strategy]
    search.start_from(stages(ladders))
    search.fill(rank)
    search.check_lower_ends()
    return [ladder.rungs[i] for ladder, i in zip(ladders, search.places, strict=True)]


Stage = Callable[[int], list[int]]


def _by_score(ladders: Sequence[Ladder]) -> tuple[Stage, int]:
    thresholds = np.unique(np.concatenate([ladder.scores for ladder in ladders]))

    def stage(number: int) -> list[int]:
        scores = ((x, thresholds[number]) for x in ladders)
        return [x.rung(int((x.scores >= threshold).sum())) for x, threshold in scores]

    return stage, len(thresholds)


def _by_share(ladders: Sequence[Ladder]) -> tuple[Stage, int]:
    shares = np.unique([n / x.size for x in ladders for n in x.rungs])[::-1]

    def stage(number: int) -> list[int]:
        return [x.rung(shares[number] * x.size + 1e-9) for x in ladders]

    return stage, len(shares)


def _by_held(ladders: Sequence[Ladder]) -> tuple[Stage, int]:
    shares = np.unique(np.concatenate([ladder.held for ladder in ladders]))[::-1]

    def stage(number: int) -> list[int]:
        least = shares[number] - 1e-12
        return [x.rung(int(np.searchsorted(x.held, least))) for x in ladders]

    return stage, len(shares)


def _mean_score(ladder: Ladder, place: int) -> float:
    low, high = ladder.rungs[place - 1], ladder.rungs[place]
    return -float(ladder.scores[low:high].mean())


def _share_left(ladder: Ladder, place: int) -> float:
    return ladder.rungs[place - 1] / ladder.size


def _held_left(ladder: Ladder, place: int) -> float:
    return float(ladder.held[ladder.rungs[place - 1]])


Rank = Callable[[Ladder, int], float]
_STRATEGIES: dict[Strategy, tuple[Callable[[Sequence[Ladder]], tuple[Stage, int]], Rank]] = {
    "global": (_by_score, _mean_score),
    "local": (_by_held, _held_left),
    "uniform": (_by_share, _share_left),
}


class _Search:
    """One allocation on its way; `places` are rungs, one for each ladder."""

    def __init__(self, ladders: Sequence[Ladder], cost: SlimCost, limits: Sequence[Limit]) -> None:
        names, rungs = [limit.name for limit in limits], [ladder.rungs for ladder in ladders]
        self.ladders, self.limits, self.whole = ladders, limits, cost.whole_of(names)
        models: list[CostModel] = [cost.among(rungs)]
        if "memory" in names:
            models.append(MemoryCost(rungs, cost.memory))
        self.cost = JoinedCost(models)
        self.upper = Constraint(tuple(Limit(x.name, high=x.high) for x in limits))
        self.places = [0] * len(ladders)

    def fits(self, places: Sequence[int]) -> bool:
        return bool(self.upper.allows(self.cost.many(np.array([places])))[0])

    def check_reachable(self) -> None:
        for limit in self.limits:
            low, high = self.cost.bounds()[limit.name][0], self.whole[limit.name]
            if not low <= limit.high or limit.low > high:
                raise BudgetError(
                    f"budget {limit} cannot be met: pruning reaches {low:,} to {high:,} "
                    f"({low / high:.1%} to 100% of the unpruned model); lower min_keep or "
                    f"round_to, or ignore less"
                )

    def start_from(self, stages: tuple[Stage, int]) -> None:
        """Take the first stage that fits; they fall, and the least of all fits."""
        stage, number = stages
        low, high = 0, number
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.fits(stage(middle)) else (middle + 1, high)
        self.places = stage(low) if low < number else self.places

    def fill(self, rank: Rank) -> None:
        """Let groups grow by single rungs, lowest rank first, while the limits hold."""
        queue = [(rank(x, p + 1), i) for i, (x, p) in self._growing()]
        heapq.heapify(queue)
        while queue:
            i = heapq.heappop(queue)[1]
            grown = [*self.places[:i], self.places[i] + 1, *self.places[i + 1 :]]
            if self.fits(grown):
                self.places = grown
                if grown[i] + 1 < len(self.ladders[i].rungs):
                    heapq.heappush(queue, (rank(self.ladders[i], grown[i] + 1), i))

    def _growing(self) -> list[tuple[int, tuple[Ladder, int]]]:
        pairs = enumerate(zip(self.ladders, self.places, strict=True))
        return [(i, (x, place)) for i, (x, place) in pairs if place + 1 < len(x.rungs)]

    def check_lower_ends(self) -> None:
        costs = self.cost.many(np.array([self.places]))
        for limit in self.limits:
            found = int(costs[limit.name][0])
            if found < limit.low:
                raise BudgetError(
                    f"budget {limit}: the nearest that can be kept below its upper end is "
                    f"{found:,}; widen the range or lower round_to"
                )
