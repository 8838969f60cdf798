"""Tables of what every point of a supernet's space costs, built from a few runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from razorlite.cost.cover import combinations
from razorlite.cost.dependence import Dependence, Group
from razorlite.cost.factored import FactoredCost, Part
from razorlite.cost.observing import CountedRuns, Supernet
from razorlite.cost.parameters import fixed_parameters, parameter_parts
from razorlite.structures import example_inputs

Factor = Callable[[str, Group, np.ndarray], int]


def tabulate(space: Supernet, shape: tuple[int, int] = (224, 224)) -> FactoredCost:
    """Count MACs and parameters of every point of a space, once, as tables of its parts.

    The supernet is run, on shapes alone, at a few points that show every value of every dimension;
    where widths or the like change what later layers get, at as many more as show every
    combination that any layer depends on. The costs are those of the exported models, to the unit.

    Args:
        space: of a supernet whose mutables run what they export. It is left as it was.
        shape: height and width in pixels of the images.

    Raises:
        ConfigError: the model fails at a point, or a layer depends on so many dimensions that no
            table can hold it.
    """
    inputs = example_inputs(space.model, shape, device="cpu")
    with kept_point(space):
        dependence = Dependence(space, CountedRuns(space, inputs))
        dependence.points()
        macs = mac_parts(dependence)
        fixed = fixed_parameters(space)
        params = parameter_parts(space, fixed)
    constant = sum(p.costs["macs"].item() for p in macs if not p.dimensions)
    return FactoredCost(
        space,
        fixed={"macs": constant, "params": sum(p.numel() for p in fixed)},
        parts=[part for part in (*macs, *params) if part.dimensions],
    )


@contextmanager
def kept_point(space: Supernet) -> Iterator[None]:
    """Leave a supernet set to the point of before the block."""
    before = space.selected
    try:
        yield
    finally:
        space.select(before)


def mac_parts(
    dependence: Dependence, *, name: str = "macs", factor: Factor | None = None
) -> list[Part]:
    """Return the MACs of all modules, those that depend on the same dimensions in one part.

    Args:
        dependence: of a supernet whose points have been run.
        name: of the kind of cost.
        factor: path of a module, its group, and (K,) indices of the values there, to what its MACs
            are multiplied by.
    """
    amounts: dict[Group, dict[bytes, int]] = {}
    for path, group in dependence.groups.items():
        totals = amounts.setdefault(group, {})
        for combination, amount in _seen(dependence, path, group).items():
            row = np.frombuffer(combination, dtype=np.int64)
            times = 1 if factor is None else factor(path, group, row)
            totals[combination] = totals.get(combination, 0) + times * amount
    space = dependence.space
    return [Part(group, {name: filled(space, group, totals)}) for group, totals in amounts.items()]


def filled(space: Supernet, group: Group, known: Mapping[bytes, float]) -> np.ndarray:
    """Return a table over a group of dimensions from the values of those combinations that count.

    Args:
        space: the dimensions.
        group: numbers of K of them.
        known: K int64 indices, as bytes, to the value.
    """
    meant = combinations(group, space.counts, space.canonical)
    values = np.array([known[row.tobytes()] for row in meant])
    return values.reshape([space.counts[d] for d in group])


def _seen(dependence: Dependence, path: str, group: Group) -> dict[bytes, int]:
    return {
        point[list(group)].tobytes(): int(seen.amounts.get(path, 0))
        for point, seen in dependence.runs
    }
