"""Costs of every point of a search space from one table, built once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.cost.count import count_calls
from razorlite.structures import Inputs, example_inputs


class Points(Protocol):
    """What a table needs to know of a space: `razorlite.space.ChoiceSpace` has it."""

    choices: dict[str, tuple[str | int | float, ...]]
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


class PointCost(dict[str, Any]):
    """Costs of one point by name; also as attributes: `cost.macs`."""

    def __getattr__(self, name: str) -> Any:
        """Return one kind of cost."""
        if name not in self:
            raise AttributeError(f"no cost named {name!r}; known are {', '.join(self)}")
        return self[name]


@dataclass(frozen=True)
class Additive:
    """One kind of cost: a fixed part, and a share of each choice.

    Attributes:
        fixed: what every point has.
        shares: (M, C) int64 or float64, what choice c of place m adds; unused entries are 0.
    """

    fixed: int | float
    shares: np.ndarray


class CostTable:
    """Adds up what a point of a space costs.

    Args:
        space: the places and their choices.
        fixed: name of each kind of cost (macs, params, latency_ms, ...) to the part that every
            point has. A kind of which all parts are whole numbers is counted in int64, any other
            in float64.
        shares: name of each kind to what each choice of each place adds, in the space's order.

    Attributes:
        space: as given.
        names: kinds of cost.

    Raises:
        ConfigError: the shares are not those of the space, or not finite.
    """

    def __init__(
        self,
        space: Points,
        *,
        fixed: Mapping[str, int | float],
        shares: Mapping[str, Sequence[Sequence[int | float]]],
    ) -> None:
        self.space = space
        self.names = tuple(fixed)
        for name in {*fixed, *shares}:
            _check_cost(name, fixed.get(name), shares.get(name), space)
        self._costs = {name: Additive(fixed[name], _padded(shares[name])) for name in fixed}

    @classmethod
    def build(cls, space: Supernet, shape: tuple[int, int] = (224, 224)) -> CostTable:
        """Count every choice in its place, once.

        The supernet runs once on shapes alone, each choice once on the shapes it meets there. Exact
        where no choice changes the shape of its output, as everywhere in one place they must agree.

        Args:
            space: a supernet's choices.
            shape: height and width in pixels of the images.
        """
        total, inputs = _inputs_of(space, example_inputs(space.model, shape, device="cpu"))
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

    def __call__(self, subnet: Any) -> PointCost:
        """Return the costs of a point by name.

        Raises:
            SubnetError: it is no point of the space.
        """
        costs = self.many(self.space.encode(self.space.resolve(subnet))[None])
        return PointCost({name: value[0].item() for name, value in costs.items()})

    def many(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Return the costs of (N, M) points: name to (N,) int64 or float64."""
        places = np.arange(points.shape[1])
        return {
            name: cost.fixed + cost.shares[places, points].sum(axis=1)
            for name, cost in self._costs.items()
        }

    def bounds(self) -> dict[str, tuple[int | float, int | float]]:
        """Return the least and the greatest of each kind of cost, each reached by some point."""
        return {name: self._bounds(name) for name in self.names}

    def smallest(self, name: str = "macs") -> Any:
        """Return a point with the least of one kind of cost.

        Raises:
            ConfigError: there is no such kind.
        """
        return self.space.decode(self._least(name))

    def largest(self, name: str = "macs") -> Any:
        """Return a point with the most of one kind of cost: what percentages of it refer to.

        Raises:
            ConfigError: there is no such kind.
        """
        return self.space.decode(self._most(name))

    def _bounds(self, name: str) -> tuple[int | float, int | float]:
        low, high = self.many(np.stack([self._least(name), self._most(name)]))[name]
        return low.item(), high.item()

    def _least(self, name: str) -> np.ndarray:
        return self._masked(name, np.inf).argmin(axis=1)

    def _most(self, name: str) -> np.ndarray:
        return self._masked(name, -np.inf).argmax(axis=1)

    def _masked(self, name: str, unused: float) -> np.ndarray:
        if name not in self._costs:
            raise ConfigError(f"no cost named {name!r}; known are {', '.join(self.names)}")
        shares = self._costs[name].shares
        used = np.arange(shares.shape[1]) < self.space.counts[:, None]
        return np.where(used, shares, unused)


def _inputs_of(space: Supernet, example: Inputs) -> tuple[int, dict[str, list[Tensor]]]:
    """Run the supernet; return all of its path's MACs, and what each mutable is called with."""
    inputs: dict[str, list[Tensor]] = {path: [] for path in space.mutables}

    def begin(*_: object) -> None:  # a run that failed half-way is followed by another
        for seen in inputs.values():
            seen.clear()

    def watch(path: str, mutable: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def note(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            inputs[path].append(torch.empty_like(args[0], device="meta"))

        return mutable.register_forward_pre_hook(note)

    handles = [space.model.register_forward_pre_hook(begin)]
    handles += [watch(path, mutable) for path, mutable in space.mutables.items()]
    try:
        return count_calls(space.model, example)[""], inputs
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


def _check_cost(name: str, fixed: Any, shares: Any, space: Points) -> None:
    if fixed is None or shares is None:
        raise ConfigError(f"cost {name!r} wants both a fixed part and shares, got one of them")
    sizes = [len(row) for row in shares]
    if sizes != space.counts.tolist():
        raise ConfigError(
            f"cost {name!r} wants a share for each choice of each place, "
            f"{space.counts.tolist()} of them, got {sizes}"
        )
    if not np.isfinite([fixed, *(value for row in shares for value in row)]).all():
        raise ConfigError(f"cost {name!r} has a part that is not finite")


def _padded(rows: Sequence[Sequence[int | float]]) -> np.ndarray:
    """Return (M, C) numbers: whole ones as int64, zeros at the end of shorter rows."""
    width = max((len(row) for row in rows), default=0)
    values = np.array([[*row, *[0] * (width - len(row))] for row in rows])
    return values.astype(np.int64 if values.dtype.kind in "iub" else np.float64)
