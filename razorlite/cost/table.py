"""Costs of every point of a search space from one table, built once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.cost.count import Cost, count_calls


class Points(Protocol):
    """What a table needs to know of a space: `razorlite.space.ChoiceSpace` has it."""

    choices: dict[str, tuple[str, ...]]
    counts: np.ndarray

    def encode(self, subnet: Any) -> np.ndarray:
        """Return a point as (M,) indices."""

    def decode(self, indices: np.ndarray) -> Any:
        """Return the point of (M,) indices."""

    def resolve(self, subnet: Any) -> Any:
        """Return a point with its keys and names checked."""


class Supernet(Points, Protocol):
    """What building a table needs: `razorlite.space.SearchSpace` has it.

    Attributes:
        model: the supernet.
        mutables: module path to a module with `choices`, `selected` and `space_id`.
    """

    model: nn.Module
    mutables: dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One kind of cost: a fixed part, and a share of each choice.

    Attributes:
        fixed: what every point has.
        shares: (M, C) int64, what choice c of place m adds; unused entries are 0.
    """

    fixed: int
    shares: np.ndarray


class CostTable:
    """Adds up what a point of a space costs.

    Args:
        space: the places and their choices.
        fixed: name of each kind of cost (macs, params) to the part that every point has.
        shares: name of each kind to what each choice of each place adds, in the space's order.

    Attributes:
        space: as given.
        names: kinds of cost.
    """

    def __init__(
        self,
        space: Points,
        *,
        fixed: Mapping[str, int],
        shares: Mapping[str, Sequence[Sequence[int]]],
    ) -> None:
        self.space = space
        self.names = tuple(fixed)
        self._figures = {name: Figure(fixed[name], _padded(shares[name])) for name in fixed}

    @classmethod
    def build(cls, space: Supernet, shape: tuple[int, int] = (224, 224)) -> CostTable:
        """Count every choice in its place, once.

        The supernet runs once on shapes alone, each choice once on the shapes it meets there. Exact
        where no choice changes the shape of its output, as everywhere in one place they must agree.

        Args:
            space: a supernet's choices.
            shape: height and width in pixels of the images.
        """
        total, inputs = _inputs_of(space, torch.empty(1, 3, *shape))
        macs = {
            path: {name: _macs(op, inputs[path]) for name, op in mutable.choices.items()}
            for path, mutable in space.mutables.items()
        }
        chosen = sum(macs[path][mutable.selected] for path, mutable in space.mutables.items())
        shared = _fixed_parameters(space)
        params = {
            path: {name: _own_params(op, shared) for name, op in mutable.choices.items()}
            for path, mutable in space.mutables.items()
        }
        return cls(
            space,
            fixed={"macs": total - chosen, "params": sum(p.numel() for p in shared)},
            shares={"macs": _by_place(space, macs), "params": _by_place(space, params)},
        )

    def __call__(self, subnet: Any) -> Cost:
        """Return the cost of a point, without a module table.

        Raises:
            SubnetError: it is no point of the space.
        """
        figures = self.many(self.space.encode(self.space.resolve(subnet))[None])
        return Cost(macs=int(figures["macs"][0]), params=int(figures["params"][0]))

    def many(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Return the costs of (N, M) points: name to (N,) int64."""
        places = np.arange(points.shape[1])
        return {
            name: figure.fixed + figure.shares[places, points].sum(axis=1)
            for name, figure in self._figures.items()
        }

    def neighbours(self, point: np.ndarray) -> dict[str, np.ndarray]:
        """Return the costs of all points one change away from an (M,) point: name to (M, C).

        Entries beyond a place's number of choices mean nothing.
        """
        places = np.arange(len(point))
        result = {}
        for name, figure in self._figures.items():
            own = figure.shares[places, point]
            result[name] = figure.fixed + own.sum() - own[:, None] + figure.shares
        return result

    def bounds(self) -> dict[str, tuple[int, int]]:
        """Return the least and the greatest of each kind of cost, each reached by some point."""
        return {name: self._bounds(figure) for name, figure in self._figures.items()}

    def smallest(self, name: str = "macs") -> Any:
        """Return a point with the least of one kind of cost."""
        return self.space.decode(self._masked(self._figure(name), 2**62).argmin(axis=1))

    def largest(self, name: str = "macs") -> Any:
        """Return a point with the most of one kind of cost."""
        return self.space.decode(self._masked(self._figure(name), -1).argmax(axis=1))

    def _figure(self, name: str) -> Figure:
        if name not in self._figures:
            raise ConfigError(f"no cost named {name!r}; known are {', '.join(self.names)}")
        return self._figures[name]

    def _bounds(self, figure: Figure) -> tuple[int, int]:
        low = self._masked(figure, 2**62).min(axis=1).sum()
        high = self._masked(figure, -1).max(axis=1).sum()
        return figure.fixed + int(low), figure.fixed + int(high)

    def _masked(self, figure: Figure, unused: int) -> np.ndarray:
        used = np.arange(figure.shares.shape[1]) < self.space.counts[:, None]
        return np.where(used, figure.shares, unused)


def _inputs_of(space: Supernet, images: Tensor) -> tuple[int, dict[str, list[Tensor]]]:
    """Run the supernet; return all of its path's MACs, and what each mutable is called with."""
    inputs: dict[str, list[Tensor]] = {path: [] for path in space.mutables}

    def watch(path: str, mutable: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def note(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            inputs[path].append(torch.empty_like(args[0], device="meta"))

        return mutable.register_forward_pre_hook(note)

    handles = [watch(path, mutable) for path, mutable in space.mutables.items()]
    try:
        return count_calls(space.model, images)[""], inputs
    finally:
        for handle in handles:
            handle.remove()


def _macs(operation: nn.Module, inputs: list[Tensor]) -> int:
    return sum(count_calls(operation, x)[""] for x in inputs)


def _fixed_parameters(space: Supernet) -> set[nn.Parameter]:
    """Return the parameters outside of all mutables."""
    places = set(space.mutables.values())
    todo, found = [space.model], set[nn.Parameter]()
    while todo:
        module = todo.pop()
        if module not in places:
            found.update(module.parameters(recurse=False))
            todo += module.children()
    return found


def _own_params(operation: nn.Module, shared: set[nn.Parameter]) -> int:
    return sum(p.numel() for p in operation.parameters() if p not in shared)


def _by_place(space: Supernet, values: dict[str, dict[str, int]]) -> list[list[int]]:
    """Add up places of one space id; order as the space's choices."""
    totals = {place: dict.fromkeys(names, 0) for place, names in space.choices.items()}
    for path, mutable in space.mutables.items():
        for name, value in values[path].items():
            totals[mutable.space_id][name] += value
    return [list(shares.values()) for shares in totals.values()]


def _padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    width = max((len(row) for row in rows), default=0)
    return np.array([[*row, *[0] * (width - len(row))] for row in rows], dtype=np.int64)
