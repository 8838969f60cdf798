"""What a slim model may cost, and the exact cost of any slim model from counts alone."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from razorlite.core.errors import BudgetError, ConfigError
from razorlite.cost import Limit, PairCost, Sides, count
from razorlite.cost.amounts import Amount, parse_amount
from razorlite.cost.model import Number, shown
from razorlite.prune.layer_times import Times, time_of
from razorlite.prune.memory import MemoryLines, memory_lines
from razorlite.trace import ChannelGraph, Layer

Range = list[Amount | None]
LAYER_TIME = "layer_time"  # a kind of cost: picoseconds of all layers, where they were timed


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits on the slim model; all that are given must hold.

    Each is the most allowed, or [least, most]; an amount is a number, text such as "300M", or a
    percentage such as "60%" of the unpruned model, the one that pruning is given, in all of its
    rounds; a number between 0 and 1 is a share of it, too.

    Attributes:
        macs: multiply-accumulates of one image.
        params: parameters.
        memory: bytes that the activations of one image take at most at a time; see
            `razorlite.cost.peak_memory`.
        latency_ms: measured milliseconds of one image, such as "20ms" or "50%"; see
            `razorlite.prune.Stopwatch`.

    Raises:
        ConfigError: an amount cannot be read.
    """

    macs: Amount | Range | None = None
    params: Amount | Range | None = None
    memory: Amount | Range | None = None
    latency_ms: Amount | Range | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            for end in value if isinstance(value, list | tuple) else [value]:
                if end is not None:
                    parse_amount(end, whole=1.0, name=f"budget.{name}")

    @property
    def names(self) -> tuple[str, ...]:
        """What is limited."""
        return tuple(name for name, value in vars(self).items() if value is not None)

    @property
    def counted(self) -> "Budget | None":
        """The limits on what can be counted; None if there are none."""
        some = set(self.names) - {"latency_ms"}
        return replace(self, latency_ms=None) if some else None

    def limits(self, whole: Mapping[str, Number]) -> list[Limit]:
        """Return the limits in numbers.

        Args:
            whole: macs and params of the model before pruning, and memory and latency_ms if these
                are limited.

        Raises:
            BudgetError: the limits are above what the whole model costs.
            ConfigError: nothing is limited, or an amount cannot be read.
        """
        given = {name: getattr(self, name) for name in self.names}
        if not given:
            raise ConfigError(
                "budget limits nothing; give macs, params, memory or latency_ms, such as macs: 60%"
            )
        parsed = [Limit.parse(n, v, whole=whole[n], where="budget") for n, v in given.items()]
        limits = [
            replace(limit, high=float(whole[limit.name])) if limit.high == math.inf else limit
            for limit in parsed
        ]
        for limit in limits:
            _check_below(limit, whole[limit.name])
        if all(limit.high > whole[limit.name] for limit in limits):
            costs = ", ".join(f"{shown(whole[limit.name])} {limit.name}" for limit in limits)
            raise BudgetError(
                f"budget {' and '.join(map(str, limits))} is above what the whole model costs "
                f"({costs}), so nothing would be pruned; lower it"
            )
        return limits


def _check_below(limit: Limit, whole: Number) -> None:
    if limit.low > whole:
        raise BudgetError(
            f"budget.{limit.name}: the least allowed, {limit.low:,.0f}, is above the most there "
            f"is, the unpruned model's {shown(whole)}; lower it"
        )


class SlimCost:
    """MACs and parameters of slim models, equal to a count of the real model to the unit.

    A layer's cost is the product of the channels that stay on its two sides: a `PairCost` whose
    dimensions are the blocks of all prunable groups, and whose values are units to keep.

    Attributes:
        whole: macs and params of the model before pruning, and what its layers take if timed.
    """

    def __init__(
        self, model: nn.Module, graph: ChannelGraph, example: Any, times: Times | None = None
    ) -> None:
        """Count the whole model once and tabulate what each block's units add to each layer.

        Args:
            model: the model before pruning.
            graph: of the model.
            example: what MACs are stated for, as for `Channels`.
            times: what `layer_times` returns, for a further kind of cost, `LAYER_TIME`.
        """
        self._lines = lambda: memory_lines(model, graph, example)
        whole = count(model, example)
        self.whole = {"macs": whole.macs, "params": whole.params}
        if times is not None:
            self.whole[LAYER_TIME] = time_of(model, times, whole)
        self._block, self._sizes = _blocks(graph)
        self._sides = _sides(graph.layers, self._block, self._sizes, times)
        places = np.array([x.positions // x.kernel if x.kernel else 0 for x in graph.layers])
        self._maps = (places @ self._sides.outputs)[:-1].astype(np.float64)
        none = PairCost(
            [[size] for size in self._sizes], self._sides, fixed=dict.fromkeys(self._sides.pair, 0)
        )
        layered = {name: int(most) for name, (_, most) in none.bounds().items()}
        self._rest = {name: value - layered[name] for name, value in self.whole.items()}

    @cached_property
    def memory(self) -> MemoryLines:
        """What peak memory comes to; found when it is first asked for."""
        return self._lines()

    def whole_of(self, names: Collection[str]) -> dict[str, int]:
        """Return macs and params of the model before pruning, and memory if it is among names."""
        return {**self.whole, **({"memory": self.memory.whole} if "memory" in names else {})}

    def of(self, kept: NDArray[np.bool_], names: Collection[str] = ()) -> dict[str, int]:
        """Return macs, params and what was timed, and memory if named, of a mask of the units."""
        units = np.bincount(self._block[:-1][kept], minlength=len(self._sizes))
        costs = self.among([[size] for size in self._sizes]).of_widths(units[None])
        if "memory" in names:
            costs = {**costs, "memory": self.memory.of_widths(units[None])}
        return {name: int(value[0]) for name, value in costs.items()}

    def per_unit(self, kind: str, units: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return what one unit of each block costs while so many of all blocks are kept.

        Args:
            kind: "macs", "params" or, where layers were timed, `LAYER_TIME`; "memory" for the
                values of the maps that convolutions and linear layers make of it.
            units: (D,) units that each block of each prunable group keeps.

        Returns:
            (D,) costs; of each, what the model without one of its units would save.
        """
        if kind == "memory":
            return self._maps
        fewer = units[None] - np.eye(len(units), dtype=np.int64)
        costs = self.among([[size] for size in self._sizes]).of_widths(np.stack([units, *fewer]))
        saved: NDArray[np.float64] = (costs[kind][0] - costs[kind][1:]).astype(np.float64)
        return saved

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(D,) units of each block of each prunable group."""
        return np.array(self._sizes, dtype=np.int64)

    def among(self, widths: Sequence[Sequence[int]]) -> PairCost:
        """Return the costs of the models whose blocks keep one of some numbers of units each.

        Args:
            widths: for each block of each prunable group the units it may keep, in order.
        """
        return PairCost(widths, self._sides, fixed=self._rest)


def _blocks(graph: ChannelGraph) -> tuple[NDArray[np.int64], list[int]]:
    """Return the number of each unit's block, and each block's size; what stays comes last."""
    block_of = np.zeros(graph.size + 1, dtype=np.int64)
    sizes: list[int] = []
    start = 0
    for group in graph.prunable:
        for block in group.blocks:
            block_of[start + np.array(block.units)] = len(sizes)
            sizes.append(len(block.units))
        start += group.size
    block_of[-1] = len(sizes)
    return block_of, sizes


def _sides(
    layers: Sequence[Layer],
    block: NDArray[np.int64],
    sizes: Sequence[int],
    times: Times | None,
) -> Sides:
    per_unit = np.array([*sizes, 1])

    def side(units: tuple[int, ...]) -> NDArray[np.int64]:
        channels = np.bincount(block[np.array(units, dtype=np.int64)], minlength=len(per_unit))
        assert not (channels % per_unit).any()  # the units of a block lie on the same layers
        counts: NDArray[np.int64] = channels // per_unit
        return counts

    def of_all(name: str) -> NDArray[np.int64]:
        return np.array([getattr(layer, name) for layer in layers], dtype=np.int64)

    pair = {"macs": of_all("positions"), "params": of_all("kernel")}
    output = {"macs": 0 * of_all("positions"), "params": of_all("per_output")}
    if times is not None:
        pair[LAYER_TIME], output[LAYER_TIME] = _layer_costs(layers, times)
    return Sides(
        inputs=np.stack([side(layer.inputs) for layer in layers]),
        outputs=np.stack([side(layer.outputs) for layer in layers]),
        groups=of_all("groups"),
        pair=pair,
        output=output,
    )


def _layer_costs(
    layers: Sequence[Layer], times: Times
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (L,) times of pairs and of outputs; a layer that was not timed computes as others."""
    timed = [layer for layer in layers if layer.module in times]
    macs = sum(len(x.inputs) * len(x.outputs) * x.positions // x.groups for x in timed)
    total = sum(
        len(x.outputs) * (len(x.inputs) * times[x.module][0] + times[x.module][1]) for x in timed
    )
    rate = total / macs if macs else 1.0
    rows = [times.get(x.module, (round(rate * x.positions), 0)) for x in layers]
    pairs, outputs = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    return pairs, outputs
