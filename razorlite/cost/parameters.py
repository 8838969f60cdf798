"""What the parameters of a supernet's mutables add up to, form by form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from razorlite.cost.cover import combinations
from razorlite.cost.dependence import Group, Nesting, Numbering
from razorlite.cost.factored import Part
from razorlite.cost.observing import Supernet


def fixed_parameters(space: Supernet) -> set[nn.Parameter]:
    """Return the parameters outside of all mutables."""
    return set(_own(space.model, set(space.mutables.values())))


def parameter_parts(space: Supernet, fixed: set[nn.Parameter]) -> list[Part]:
    """Return the parameters of each mutable's forms, each parameter once.

    Mutables that share parameters are one part.

    Args:
        space: the supernet.
        fixed: parameters that every point has; they count nothing here.
    """
    nesting = Nesting(space)
    return [_Joint(space, paths, nesting).part(fixed) for paths in _sharing(space, fixed)]


def _own(module: nn.Module, mutables: set[nn.Module]) -> Iterator[nn.Parameter]:
    """Yield the parameters of a module that no mutable inside it has."""
    todo, seen = [module], set[nn.Module]()
    while todo:
        module = todo.pop()
        if module not in mutables and module not in seen:
            seen.add(module)
            yield from module.parameters(recurse=False)
            todo += module.children()


def _sharing(space: Supernet, fixed: set[nn.Parameter]) -> list[list[str]]:
    """Return the paths of all mutables, those together that have a parameter in common."""
    mutables = set(space.mutables.values())
    group = {path: [path] for path in space.mutables}
    holder: dict[nn.Parameter, str] = {}
    for path, mutable in space.mutables.items():
        inside = set(_own(mutable, mutables - {mutable}))
        for parameter in inside - fixed:
            first = group[holder.setdefault(parameter, path)]
            if first is not group[path]:
                first += group[path]
                group |= dict.fromkeys(group[path], first)
    return list({id(paths): paths for paths in group.values()}.values())


class _Joint:
    """Mutables whose parameters are counted together; most often one."""

    def __init__(self, space: Supernet, paths: list[str], nesting: Nesting) -> None:
        self.space, self.paths = space, paths
        self.numbering = Numbering(space)
        self.mutables = set(space.mutables.values())
        self.ways = {path: [_rules(way) for way in nesting.around(path)] for path in paths}

    def part(self, fixed: set[nn.Parameter]) -> Part:
        """Return the number of parameters at each combination of what they depend on."""
        group, counts = self._group(), self.space.counts
        meant = combinations(group, counts, self.space.canonical)
        known: dict[bytes, int] = {}
        with torch.random.fork_rng(devices=[]):  # new layers are drawn, and then overwritten
            for row in np.unique(meant, axis=0):
                known[row.tobytes()] = self._count(self._values(group, row), fixed)
        table = np.array([known[row.tobytes()] for row in meant], dtype=np.int64)
        return Part(group, {"params": table.reshape([counts[d] for d in group])})

    def _group(self) -> Group:
        own = {d.name for path in self.paths for d in self.space.mutables[path].dimensions}
        above = {name for ways in self.ways.values() for rules in ways for name, _ in rules}
        return self.numbering.of(own | above)

    def _values(self, group: Group, row: np.ndarray) -> Mapping[str, Any]:
        dimensions = self.space.dimensions
        return {
            dimensions[d].name: dimensions[d].values[i] for d, i in zip(group, row, strict=True)
        }

    def _count(self, values: Mapping[str, Any], fixed: set[nn.Parameter]) -> int:
        found: set[nn.Parameter] = set()
        for path in self.paths:
            ways = self.ways[path]
            if any(all(values[name] in allowed for name, allowed in rules) for rules in ways):
                plain = self.space.mutables[path].export(values)
                found.update(_own(plain, self.mutables))
        return sum(parameter.numel() for parameter in found - fixed)


def _rules(around: Sequence[tuple[Any, str]]) -> list[tuple[str, Sequence[Any]]]:
    """Return the dimensions and values under which a module runs, from the mutables around it."""
    inside = [(mutable, path) for mutable, path in around if path]
    return [rule for mutable, path in inside for rule in mutable.condition(path).items()]
