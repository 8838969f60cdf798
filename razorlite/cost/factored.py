"""Costs that add up over parts of a model, each of which depends on a few dimensions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from razorlite.core.errors import ConfigError
from razorlite.cost.extremes import Factor, least
from razorlite.cost.model import Number

_CHUNK = 4096  # points looked up at a time: what is looked up stays in the processor's cache


class Points(Protocol):
    """What a table needs to know of a space: every space of `razorlite.space` has it."""

    @property
    def counts(self) -> np.ndarray: ...

    def encode(self, subnet: Any) -> np.ndarray:
        """Return a point as (D,) indices."""

    def decode(self, indices: np.ndarray) -> Any:
        """Return the point of (D,) indices."""

    def resolve(self, subnet: Any) -> Any:
        """Return a point with its keys and names checked."""


class PointCost(dict[str, Any]):
    """Costs of one point by name; also as attributes: `cost.macs`."""

    def __getattr__(self, name: str) -> Any:
        """Return one kind of cost."""
        if name not in self:
            raise AttributeError(f"no cost named {name!r}; known are {', '.join(self)}")
        return self[name]


@dataclass(frozen=True)
class Part:
    """What one layer, or a few, cost as a function of the dimensions that they depend on.

    Attributes:
        dimensions: K numbers of dimensions of the space, all different.
        costs: kind of cost to a (C_1, ..., C_K) table of whole numbers or floats: one axis per
            dimension, in that order, of as many entries as the dimension has values.
    """

    dimensions: tuple[int, ...]
    costs: Mapping[str, np.ndarray]


class FactoredCost:
    """A fixed part plus a table for each part of a model, over the dimensions it depends on.

    An elastic convolution depends on its input width, its output width and its kernel; a choice
    of operations on one dimension; what is nested in a choice on that one, too.

    Args:
        space: the dimensions that points are made of.
        fixed: name of each kind of cost (macs, params, latency_ms, ...) to the part that every
            point has. A kind of which all parts are whole numbers is counted in int64, any other
            in float64.
        parts: what comes on top; a kind that a part does not name costs nothing there.

    Attributes:
        space: as given.
        names: kinds of cost.
        fixed: as given.
        parts: what was given, those together of which one has all dimensions of the other.

    Raises:
        ConfigError: a part does not fit the space, names another kind, or is not finite.
    """

    def __init__(
        self, space: Points, *, fixed: Mapping[str, Number], parts: Sequence[Part] = ()
    ) -> None:
        self.space = space
        self.names = tuple(fixed)
        for name, value in fixed.items():
            _check_finite(name, value)
        for part in parts:
            _check(part, space.counts, self.names)
        self.fixed = dict(fixed)
        self.parts = merged(parts)
        self._lookup = _Lookup([part.dimensions for part in self.parts], space.counts)
        self._tables = {name: self._flat(name) for name in fixed}

    def __call__(self, subnet: Any) -> PointCost:
        """Return the costs of a point by name.

        Raises:
            SubnetError: it is no point of the space.
        """
        costs = self.many(self.space.encode(self.space.resolve(subnet))[None])
        return PointCost({name: value[0].item() for name, value in costs.items()})

    def many(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Return the costs of (N, D) points: name to (N,) int64 or float64."""
        chunks = [points[i : i + _CHUNK] for i in range(0, max(len(points), 1), _CHUNK)]
        looked_up = [self._lookup(chunk) for chunk in chunks]
        return {
            name: self.fixed[name] + np.concatenate([table.take(i).sum(axis=1) for i in looked_up])
            for name, table in self._tables.items()
        }

    def bounds(self) -> dict[str, tuple[Number, Number]]:
        """Return the least and the greatest of each kind of cost.

        Both are reached by some point, unless the parts are so entangled (their dimensions form
        no chain, no tree and nothing near it) that finding out would take too much memory: then
        no point lies outside, and the ends may lie outside of what points reach.
        """
        return {name: self._bounds(name) for name in self.names}

    def smallest(self, name: str = "macs") -> Any:
        """Return a point with the least of one kind of cost.

        Raises:
            ConfigError: there is no such kind.
        """
        return self.space.decode(self._extreme(name, 1)[0])

    def largest(self, name: str = "macs") -> Any:
        """Return a point with the most of one kind of cost: what percentages of it refer to.

        Raises:
            ConfigError: there is no such kind.
        """
        return self.space.decode(self._extreme(name, -1)[0])

    def _bounds(self, name: str) -> tuple[Number, Number]:
        ends = []
        for sign in (1, -1):
            point, total, exact = self._extreme(name, sign)
            reached = self.many(point[None])[name][0].item()
            ends.append(reached if exact else self.fixed[name] + sign * total)
        return ends[0], ends[1]

    def _extreme(self, name: str, sign: int) -> tuple[np.ndarray, Number, bool]:
        """Return the point of the least (1) or greatest (-1) cost; see `least`."""
        if name not in self.fixed:
            raise ConfigError(f"no cost named {name!r}; known are {', '.join(self.names)}")
        factors = [Factor(p.dimensions, sign * p.costs[name]) for p in self._having(name)]
        return least(factors, self.space.counts)

    def _having(self, name: str) -> list[Part]:
        return [part for part in self.parts if name in part.costs]

    def _flat(self, name: str) -> np.ndarray:
        """Return all parts' tables of one kind of cost, one after another."""
        sizes = self._lookup.sizes
        parts = zip(self.parts, sizes, strict=True)
        tables = [p.costs[name].ravel() if name in p.costs else np.zeros(n, int) for p, n in parts]
        return np.concatenate([np.zeros(0, np.int64), *tables])


def merged(parts: Sequence[Part]) -> list[Part]:
    """Return parts with the same costs, and none whose dimensions are among another's."""
    found: list[Part] = []
    for part in sorted(map(_ordered, filter(_costly, parts)), key=lambda p: -len(p.dimensions)):
        home = (i for i, p in enumerate(found) if set(part.dimensions) <= set(p.dimensions))
        i = next(home, None)
        if i is None:
            found.append(part)
        else:
            found[i] = _sum(found[i], part)
    return sorted(found, key=lambda p: p.dimensions)


def _costly(part: Part) -> bool:
    return bool(part.costs)


def _ordered(part: Part) -> Part:
    """Return the part with rising dimensions and plain int64 or float64 tables."""
    order = np.argsort(part.dimensions)
    costs = {name: plain_numbers(table).transpose(order) for name, table in part.costs.items()}
    return Part(tuple(sorted(part.dimensions)), costs)


def _sum(large: Part, small: Part) -> Part:
    """Return one part for two, of which the first has all dimensions of the second."""
    axes = [i for i, d in enumerate(large.dimensions) if d not in small.dimensions]
    costs = dict(large.costs)
    for name, table in small.costs.items():
        wide = np.expand_dims(table, tuple(axes))
        shape = next(iter(large.costs.values())).shape
        costs[name] = costs[name] + wide if name in costs else np.broadcast_to(wide, shape)
    return Part(large.dimensions, costs)


def plain_numbers(values: Any) -> np.ndarray:
    """Return numbers as int64 where all of them are whole by type, as float64 otherwise."""
    array = np.asarray(values)
    return array.astype(np.int64 if array.dtype.kind in "iub" else np.float64)


class _Lookup:
    """Turns points into the positions of their entries in all tables, laid end to end."""

    def __init__(self, parts: Sequence[tuple[int, ...]], counts: np.ndarray) -> None:
        shapes = [[int(counts[d]) for d in part] for part in parts]
        self.sizes = [math.prod(shape) for shape in shapes]
        self.starts = np.cumsum([0, *self.sizes])[:-1]
        self.additive = list(parts) == [(d,) for d in range(len(counts))]
        # Axis k of each part: which dimension it is, and how far apart its entries are. A part of
        # fewer axes takes dimension 0 with entries no distance apart.
        self.axes = [
            (
                np.array([part[k] if k < len(part) else 0 for part in parts]),
                np.array([math.prod(s[k + 1 :]) if k < len(s) else 0 for s in shapes]),
            )
            for k in range(max(map(len, parts), default=0))
        ]

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return (N, P) positions of N points' entries in the tables of P parts."""
        if self.additive:
            columns: np.ndarray = points + self.starts
            return columns
        positions = np.repeat(self.starts[None], len(points), axis=0)
        for dimensions, strides in self.axes:
            positions += points.take(dimensions, axis=1) * strides
        return positions


def _check(part: Part, counts: np.ndarray, names: Sequence[str]) -> None:
    dimensions = part.dimensions
    if len(set(dimensions)) != len(dimensions) or not all(0 <= d < len(counts) for d in dimensions):
        raise ConfigError(
            f"a part of a cost wants different dimensions from 0 to {len(counts) - 1}, got "
            f"{list(dimensions)}"
        )
    shape = tuple(int(counts[d]) for d in dimensions)
    for name, table in part.costs.items():
        if name not in names:
            raise ConfigError(f"cost {name!r} wants both a fixed part and shares, got one of them")
        if np.shape(table) != shape:
            raise ConfigError(
                f"cost {name!r} wants a table of shape {shape} over the dimensions "
                f"{list(dimensions)}, got {np.shape(table)}"
            )
        _check_finite(name, table)


def _check_finite(name: str, values: Any) -> None:
    if not np.isfinite(values).all():
        raise ConfigError(f"cost {name!r} has a part that is not finite")
