"""Peak memory of slim models, from the whole one and one unit less of each block."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from razorlite.cost import memory_trace
from razorlite.cost.model import Number
from razorlite.prune._surgery import cut_layers, sides_of
from razorlite.trace import Block, ChannelGraph, ChannelGroup
from razorlite.trace.tracing import skeleton

_NAME = "memory"


@dataclass(frozen=True)
class MemoryLines:
    """Bytes that activations take after each operation: a constant and so many for each unit.

    Attributes:
        fixed: (T,) bytes without any unit.
        each: (T, D) bytes that one unit of each block adds.
        whole: the peak with all units.
    """

    fixed: NDArray[np.float64]
    each: NDArray[np.float64]
    whole: int

    def of_widths(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the (N,) peaks of (N, D) numbers of kept units."""
        found: NDArray[np.float64] = (units @ self.each.T + self.fixed).max(1)
        return np.rint(found).astype(np.int64)


class MemoryCost:
    """Peak memory of the points whose values are units to keep: a cost model.

    Args:
        widths: for each block the units that each value keeps, rising.
        lines: of the model.

    Attributes:
        names: memory.
    """

    names = (_NAME,)

    def __init__(self, widths: Sequence[Sequence[int]], lines: MemoryLines) -> None:
        self._widths = [np.array(row, dtype=np.int64) for row in widths]
        self._lines = lines

    def many(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Return the peaks of (N, D) points."""
        units = np.stack([row[i] for row, i in zip(self._widths, points.T, strict=True)], axis=1)
        return {_NAME: self._lines.of_widths(units)}

    def bounds(self) -> dict[str, tuple[Number, Number]]:
        """Return the least and the greatest peak; both are exact."""
        ends = np.array([[row.min() for row in self._widths], [row.max() for row in self._widths]])
        low, high = self._lines.of_widths(ends).tolist()
        return {_NAME: (low, high)}


def memory_lines(model: nn.Module, graph: ChannelGraph, example: Any) -> MemoryLines:
    """Count the whole model, and the model without one unit of each block in turn.

    Maps have as many bytes as they have channels, so that a unit adds the same to each of them,
    however many there are.

    Args:
        model: not changed.
        graph: of the model.
        example: as for `Channels`.
    """
    twin = _runnable(model, example)
    whole = np.array(memory_trace(twin, example), dtype=np.float64)
    sizes, columns = [], []
    for group in graph.prunable:
        for block in group.blocks:
            sizes.append(len(block.units))
            columns.append(np.zeros_like(whole))
            if len(block.units) > 1:  # of a single unit none can go
                slim = _with_one_less(twin, graph, group, block)
                columns[-1] = whole - np.array(memory_trace(slim, example))
    each = np.stack(columns, axis=1)
    lines = np.unique(np.column_stack([whole - each @ np.array(sizes), each]), axis=0)
    return MemoryLines(lines[:, 0], lines[:, 1:], int(whole.max()))


def _with_one_less(
    model: nn.Module, graph: ChannelGraph, group: ChannelGroup, block: Block
) -> nn.Module:
    kept = {g.name: np.ones(g.size, dtype=bool) for g in graph.groups}
    kept[group.name][block.units[-1]] = False
    slim = copy.deepcopy(model)
    cut_layers(slim, sides_of(graph, kept))
    return slim


def _runnable(model: nn.Module, example: Any) -> nn.Module:
    """Return a copy without values, or with them where it does not run without."""
    twin = skeleton(model)
    try:
        memory_trace(twin, example)
    except Exception:  # whatever a forward does that wants values
        return copy.deepcopy(model)
    return twin
