"""A budget of milliseconds met by measuring slim models, not by guessing from MACs."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from razorlite.core.errors import BudgetError
from razorlite.cost import Limit
from razorlite.prune.budget import LAYER_TIME
from razorlite.prune.stopwatch import Stopwatch
from razorlite.space.subnet import Subnet

_log = logging.getLogger("razorlite")
_BELOW = 0.04  # how far below the limit is near enough, as a share of it
_MOST = 10  # measurements
_NEAR = 1e-3  # shares of the cost that is planned by that are about the same


@dataclass(frozen=True)
class Tried:
    """A slim model that was timed.

    Attributes:
        spent: its share of what the whole model costs, of the kind that is planned by.
        share: its share of the whole model's time.
        subnet: what it keeps.
    """

    spent: float
    share: float
    subnet: Subnet | None = None


class LatencyFit:
    """Finds the slim model that takes the time allowed, measured end to end.

    Subnets are planned by what their layers take, each timed by itself, or by another cost. The
    time rises with that, nearly as a straight line: each try is where the line through the nearest
    two that were timed meets the limit, or in the middle of what is left where that leads nowhere.

    Args:
        plan: returns the subnet within limits on macs, params and the kind of cost.
        cut: returns the slim model of a subnet.
        limits: on macs and params.
        latency: on latency_ms.
        whole: costs of the model that is pruned.
        stopwatch: measures beside the whole model.
        by: kind of the cost that subnets are planned by.
    """

    def __init__(
        self,
        plan: Callable[[Sequence[Limit]], Subnet],
        cut: Callable[[Subnet], nn.Module],
        *,
        limits: Sequence[Limit],
        latency: Limit,
        whole: Mapping[str, int],
        stopwatch: Stopwatch,
        by: str = LAYER_TIME,
    ) -> None:
        self.by = by
        self.plan, self.cut, self.limits, self.stopwatch = plan, cut, list(limits), stopwatch
        self.whole, self.latency = whole, latency
        self.most = latency.high / stopwatch.whole_ms
        self.low, self.high = Tried(0.0, 0.0), Tried(1.0, 1.0)
        self.above: Tried | None = None  # that was the high end before
        self.fits: list[Tried] = []
        self.refused: BudgetError | None = None

    def run(self) -> Subnet:
        """Return the subnet that takes the most time of those that take no more than the limit.

        Raises:
            BudgetError: no subnet does, or none that does is above the least allowed.
        """
        for number in range(_MOST):
            tried = self._try(self._next(number))
            if (tried and self._is_near(tried)) or self.high.spent - self.low.spent < _NEAR:
                break
        return self._best()

    def _next(self, number: int) -> float:
        """Return the share to try, of the cost that is planned by."""
        low, high = self.low, self.high
        middle = (low.spent + high.spent) / 2
        near, far = (low, high) if self.fits or self.above is None else (high, self.above)
        rise = far.share - near.share
        if rise <= 0 or number % 4 == 3:
            return middle
        aim = self.most * (1 - _BELOW / 2)
        at = near.spent + (far.spent - near.spent) * (aim - near.share) / rise
        edge = 0.05 * (high.spent - low.spent)
        return min(max(at, low.spent + edge), high.spent - edge)

    def _try(self, spent: float) -> Tried | None:
        """Time a slim model and move an end to it; None where there is no such small one."""
        try:
            subnet = self.plan(self._limits(spent))
        except BudgetError as error:
            self.refused, self.low = error, Tried(spent, self.low.share)
            return None
        share = self.stopwatch.beside(self.cut(subnet)).share
        _log.info(
            "latency: %.0f%% of the MACs take %.1f%% of the time, %.1f%% are allowed",
            100 * subnet.cost["macs"] / self.whole["macs"],
            100 * share,
            100 * self.most,
        )
        own = subnet.cost[self.by] / self.whole[self.by]
        own = min(max(own, self.low.spent), spent)
        tried = Tried(own, share, subnet)
        if share <= self.most:
            self.fits.append(tried)
            self.low = Tried(spent, share, subnet)
        else:
            self.above, self.high = self.high, tried
        return tried

    def _limits(self, share: float) -> list[Limit]:
        return [*self.limits, Limit(self.by, high=share * self.whole[self.by])]

    def _is_near(self, tried: Tried) -> bool:
        return self.most * (1 - _BELOW) <= tried.share <= self.most

    def _best(self) -> Subnet:
        if self.refused is not None and self.high.subnet is None and not self.fits:
            raise self.refused
        if not self.fits:
            raise BudgetError(
                f"budget {self.latency} cannot be met: the smallest slim model timed takes "
                f"{self.high.share * self.stopwatch.whole_ms:.1f} ms ({self.high.share:.0%} of the "
                f"whole one's time); lower min_keep or round_to, ignore less, or raise the budget"
            )
        best = max(self.fits, key=lambda tried: (tried.share, tried.spent))
        assert best.subnet is not None
        self._check_lower_end(best)
        record = dict(self.stopwatch.record(self.cut(best.subnet)))
        cost = {**without_layer_time(best.subnet).cost, "latency_ms": record["ms"]}
        return best.subnet.with_results(cost=cost, origin={**best.subnet.origin, "latency": record})

    def _check_lower_end(self, best: Tried) -> None:
        found = best.share * self.stopwatch.whole_ms
        if found < self.latency.low:
            raise BudgetError(
                f"budget {self.latency}: the nearest below its upper end takes {found:.1f} ms; "
                f"widen the range or lower round_to"
            )
        if not self._is_near(best):
            _log.warning(
                "latency: the nearest slim model takes %.1f%% of the time, %.1f%% are allowed; a "
                "lower round_to gives finer steps",
                100 * best.share,
                100 * self.most,
            )


def without_layer_time(subnet: Subnet) -> Subnet:
    """Return a subnet that says what it costs, but not what it was planned by."""
    cost = {name: value for name, value in subnet.cost.items() if name != LAYER_TIME}
    return replace(subnet, cost=cost)
