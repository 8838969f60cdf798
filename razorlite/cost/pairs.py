"""Costs of layers that are products of the channels on their two sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from razorlite.core.errors import ConfigError
from razorlite.cost.model import Number

_CHUNK = 1024  # points at a time: their layers' sides stay in the processor's cache


@dataclass(frozen=True)
class Sides:
    """What L layers cost by the channels on their two sides.

    A layer's side has the units that each dimension keeps, times the channels that each unit is
    worth there; the last column counts channels that always stay.

    Attributes:
        inputs: (L, D + 1) int64, channels of the input side for each unit of each dimension.
        outputs: (L, D + 1) int64, the same for the output side.
        groups: (L,) int64, the groups of a grouped convolution, else 1.
        pair: kind of cost to (L,) int64, the cost of one pair of input and output channel.
        output: kind of cost to (L,) int64, the further cost of one output channel.
    """

    inputs: NDArray[np.int64]
    outputs: NDArray[np.int64]
    groups: NDArray[np.int64]
    pair: Mapping[str, NDArray[np.int64]]
    output: Mapping[str, NDArray[np.int64]]


class PairCost:
    """Costs of a model whose dimensions are numbers of channels: a cost model by arithmetic.

    No table over pairs of widths is needed: a layer costs its pairs of channels times the cost of
    one pair, to the unit, however many widths there are.

    Args:
        widths: for each of D dimensions how many units each of its values keeps, rising or not.
        sides: the layers.
        fixed: kind of cost to what does not depend on any width.

    Attributes:
        names: kinds of cost, those of `fixed`.

    Raises:
        ConfigError: a number is negative, so that more channels might cost less, or the kinds of
            cost or numbers of dimensions do not agree.
    """

    def __init__(
        self, widths: Sequence[Sequence[int]], sides: Sides, *, fixed: Mapping[str, int]
    ) -> None:
        self.names = tuple(fixed)
        self.widths = [np.array(row, dtype=np.int64) for row in widths]
        self.fixed = dict(fixed)
        _check(self.widths, sides, self.names)
        self.sides = _joined(sides)
        self._inputs, self._outputs = (
            side.T.astype(np.float64) for side in (self.sides.inputs, self.sides.outputs)
        )
        self._starts = np.cumsum([0, *map(len, self.widths)])[:-1]
        self._flat = np.concatenate([np.zeros(0, np.int64), *self.widths])

    def many(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Return the costs of (N, D) points: name to (N,) int64."""
        found = [
            self.of_widths(self._flat[points[i : i + _CHUNK] + self._starts])
            for i in range(0, max(len(points), 1), _CHUNK)
        ]
        return {name: np.concatenate([costs[name] for costs in found]) for name in self.names}

    def of_widths(self, units: NDArray[np.int64]) -> dict[str, np.ndarray]:
        """Return the costs of any (N, D) numbers of kept units: name to (N,) int64."""
        # Floats count exactly up to 2 ** 53, and their product of matrices is the fast one.
        kept = np.concatenate([units, np.ones((len(units), 1))], axis=1)
        inputs = (kept @ self._inputs).astype(np.int64)
        outputs = (kept @ self._outputs).astype(np.int64)
        pairs = inputs * outputs // self.sides.groups
        return {
            name: self.fixed[name]
            + pairs @ self.sides.pair[name]
            + outputs @ self.sides.output[name]
            for name in self.names
        }

    def bounds(self) -> dict[str, tuple[Number, Number]]:
        """Return the least and the greatest of each kind of cost.

        Both are exact: no layer gets cheaper by a channel more.
        """
        ends = np.array([[row.min() for row in self.widths], [row.max() for row in self.widths]])
        costs = self.of_widths(ends.astype(np.int64).reshape(2, -1))
        return {name: (low.item(), high.item()) for name, (low, high) in costs.items()}


def _check(widths: Sequence[np.ndarray], sides: Sides, names: Sequence[str]) -> None:
    if {len(widths) + 1} != {side.shape[1] for side in (sides.inputs, sides.outputs)}:
        raise ConfigError(
            f"sides of layers want {len(widths) + 1} columns, one for each dimension and one for "
            f"what stays, got {sides.inputs.shape[1]} and {sides.outputs.shape[1]}"
        )
    if not set(sides.pair) == set(sides.output) == set(names):
        raise ConfigError(
            f"costs of pairs, outputs and the fixed part want the same kinds, got "
            f"{sorted(sides.pair)}, {sorted(sides.output)} and {sorted(names)}"
        )
    numbers = [*widths, sides.inputs, sides.outputs, *sides.pair.values(), *sides.output.values()]
    if any((values < 0).any() for values in numbers):
        raise ConfigError("costs by pairs of widths want no negative number")
    if (sides.groups < 1).any():
        raise ConfigError(f"layers want groups of at least 1, got {sides.groups.min()}")


def _joined(sides: Sides) -> Sides:
    """Return one layer for all with the same channels on both sides."""
    rows = np.concatenate([sides.inputs, sides.outputs, sides.groups[:, None]], axis=1)
    unique, inverse = np.unique(rows, axis=0, return_inverse=True)
    middle = sides.inputs.shape[1]

    def total(values: NDArray[np.int64]) -> NDArray[np.int64]:
        sums = np.zeros(len(unique), dtype=np.int64)
        np.add.at(sums, inverse.ravel(), values)
        return sums

    return Sides(
        inputs=unique[:, :middle],
        outputs=unique[:, middle:-1],
        groups=unique[:, -1],
        pair={name: total(values) for name, values in sides.pair.items()},
        output={name: total(values) for name, values in sides.output.items()},
    )
