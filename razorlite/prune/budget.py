"""What a slim model may cost, and the exact cost of any slim model from counts alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from razorlite.core.errors import BudgetError, ConfigError
from razorlite.cost import Limit, count, parse_amount
from razorlite.trace import ChannelGraph

Amount = int | float | str
Range = list[Amount | None]
Counts = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits on the slim model; all that are given must hold.

    Each is the most allowed, or [least, most]; an amount is a number, text such as "300M", or a
    percentage such as "60%" of the model that pruning is given, in all of its rounds; a number
    between 0 and 1 is a share of it, too.

    Attributes:
        macs: multiply-accumulates of one image.
        params: parameters.
    """

    macs: Amount | Range | None = None
    params: Amount | Range | None = None

    def limits(self, whole: Mapping[str, int]) -> list[Limit]:
        """Return the limits in numbers.

        Args:
            whole: macs and params of the model before pruning.

        Raises:
            BudgetError: the limits are above what the whole model costs.
            ConfigError: nothing is limited, or an amount cannot be read.
        """
        given = {name: value for name, value in vars(self).items() if value is not None}
        if not given:
            raise ConfigError("budget limits nothing; give macs or params, such as macs: 60%")
        limits = [_limit(name, value, whole[name]) for name, value in given.items()]
        if all(limit.high > whole[limit.name] for limit in limits):
            costs = ", ".join(f"{whole[limit.name]:,} {limit.name}" for limit in limits)
            raise BudgetError(
                f"budget {' and '.join(map(str, limits))} is above what the whole model costs "
                f"({costs}), so nothing would be pruned; lower it"
            )
        return limits


def _limit(name: str, value: Amount | Range, whole: int) -> Limit:
    ends = list(value) if isinstance(value, list | tuple) else [None, value]
    if len(ends) != 2:
        raise ConfigError(f"budget.{name} wants the most allowed or [least, most], got {value}")
    low, high = (
        default if end is None else parse_amount(_share(end), whole=whole, name=f"budget.{name}")
        for end, default in zip(ends, (0.0, float(whole)), strict=True)
    )
    if low > high:
        raise BudgetError(f"budget.{name}: the least, {low:,.0f}, is above the most, {high:,.0f}")
    return Limit(name, low, high)


def _share(value: Amount) -> Amount:
    """Return a number between 0 and 1 as a percentage: nothing costs less than 1."""
    return f"{100 * value}%" if isinstance(value, float) and 0 < value < 1 else value


class SlimCost:
    """MACs and parameters of slim models, equal to a count of the real model to the unit.

    A layer's cost is the product of the channels that stay on its two sides. Both are sums over
    units, so that adding or dropping a unit is one addition per layer.
    """

    def __init__(self, model: nn.Module, graph: ChannelGraph, shape: tuple[int, int]) -> None:
        """Count the whole model once and tabulate what each unit adds to each layer.

        Args:
            model: the model before pruning.
            graph: of the model.
            shape: (height, width) in pixels that MACs are stated for.
        """
        layers, width = graph.layers, graph.size + 1
        self.inputs = np.stack([_histogram(layer.inputs, width) for layer in layers])
        self.outputs = np.stack([_histogram(layer.outputs, width) for layer in layers])
        facts = [(x.positions, x.kernel, x.per_output, x.groups) for x in layers]
        self.positions, self.kernel, self.per_output, self.groups = np.array(facts, np.int64).T
        whole = count(model, shape)
        self.rest = {"macs": 0, "params": 0}
        layered = self.figures(self.counts(np.ones(graph.size, dtype=bool)))
        self.whole = {"macs": whole.macs, "params": whole.params}
        self.rest = {name: self.whole[name] - layered[name] for name in self.whole}

    def counts(self, kept: NDArray[np.bool_]) -> Counts:
        """Return the channels on both sides of all layers, given a mask of the graph's units."""
        always = np.append(kept, True)
        return self.inputs[:, always].sum(1), self.outputs[:, always].sum(1)

    def added(self, counts: Counts, units: NDArray[np.int64]) -> Counts:
        """Return the counts with some more units kept."""
        return tuple(  # type: ignore[return-value]
            before + table[:, units].sum(1)
            for before, table in zip(counts, (self.inputs, self.outputs), strict=True)
        )

    def figures(self, counts: Counts) -> dict[str, int]:
        """Return macs and params."""
        inputs, outputs = counts
        pairs = inputs * outputs // self.groups
        return {
            "macs": self.rest["macs"] + int((pairs * self.positions).sum()),
            "params": self.rest["params"]
            + int((pairs * self.kernel + outputs * self.per_output).sum()),
        }


def _histogram(units: tuple[int, ...], width: int) -> NDArray[np.int64]:
    return np.bincount(np.array(units, dtype=np.int64), minlength=width)
