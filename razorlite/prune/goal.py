"""What pruning has to come to, in numbers that hold for every round."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from razorlite.cost import Limit
from razorlite.cost.model import Number
from razorlite.prune.schedule import polynomial_schedule
from razorlite.trace import ChannelGraph


@dataclass(frozen=True)
class Goal:
    """Limits and floors, resolved once against the model that was handed in.

    Attributes:
        whole: macs and params of that model, and latency_ms where it is limited.
        limits: of its slim form.
        floors: for each prunable group the least units to keep of each of its blocks.
    """

    whole: Mapping[str, Number]
    limits: tuple[Limit, ...]
    floors: Mapping[str, tuple[int, ...]]

    def of_round(self, number: int, rounds: int) -> "Goal":
        """Return what one of several rounds has to come to; the last is this goal itself.

        Args:
            number: from 1 on.
            rounds: how many there are.
        """
        if number == rounds:
            return self
        limits = []
        for limit in self.limits:
            whole = self.whole[limit.name]
            share = polynomial_schedule(final=limit.high / whole, rounds=rounds)[number - 1]
            limits.append(Limit(limit.name, limit.low, share * whole))
        return replace(self, limits=tuple(limits))


def floors(graph: ChannelGraph, min_keep: float) -> dict[str, tuple[int, ...]]:
    """Return for each prunable group the least units to keep of each of its blocks."""
    return {
        group.name: tuple(math.ceil(min_keep * len(block.units)) for block in group.blocks)
        for group in graph.prunable
    }
