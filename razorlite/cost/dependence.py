"""Which dimensions of a space the cost of each part of a supernet depends on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from razorlite.core.errors import ConfigError
from razorlite.cost.cover import covering
from razorlite.cost.observing import CountedRuns, Observation, Supernet

Group = tuple[int, ...]

_MOST_RUNS = 4096


class Numbering:
    """Numbers of a space's dimensions, with those that their conditions name.

    Args:
        space: the supernet.
    """

    def __init__(self, space: Supernet) -> None:
        self.numbers = {dimension.name: i for i, dimension in enumerate(space.dimensions)}
        self._above = [tuple(self.numbers[o] for o in d.when) for d in space.dimensions]

    def closed(self, dimensions: Iterable[int]) -> Group:
        """Return dimensions with all that decide whether they count, rising."""
        found: set[int] = set()
        todo = list(dimensions)
        while todo:
            number = todo.pop()
            if number not in found:
                found.add(number)
                todo += self._above[number]
        return tuple(sorted(found))

    def of(self, names: Iterable[str]) -> Group:
        """Return the numbers of dimensions by name, with all that their conditions name."""
        return self.closed(self.numbers[name] for name in names)


class Nesting:
    """Which mutables each module of a supernet is inside of, by whatever path it is reached.

    Args:
        space: the supernet.
    """

    def __init__(self, space: Supernet) -> None:
        self._mutables = set(space.mutables.values())
        every = dict(space.model.named_modules(remove_duplicate=False))
        self._modules = every
        self._paths: dict[Any, list[str]] = {}
        for path, module in every.items():
            self._paths.setdefault(module, []).append(path)

    def around(self, path: str) -> list[list[tuple[Any, str]]]:
        """Return the mutables around a module, for each of the paths that lead to it.

        Args:
            path: any of these.

        Returns:
            For each path the mutables and the path from each to the module, outer ones first; ""
            is the module itself.
        """
        return [self._on(path) for path in self._paths[self._modules[path]]]

    def _on(self, path: str) -> list[tuple[Any, str]]:
        parts = path.split(".") if path else []
        ends = [(".".join(parts[:n]), ".".join(parts[n:])) for n in range(len(parts) + 1)]
        found = [(self._modules[end], rest) for end, rest in ends]
        return [(module, rest) for module, rest in found if module in self._mutables]


@dataclass(frozen=True)
class Change:
    """What changed from one point to another.

    Attributes:
        before: at the one.
        after: at the other.
    """

    before: Observation
    after: Observation

    def changed(self) -> list[str]:
        """Return the paths of the modules that took another amount."""
        before, after = self.before.amounts, self.after.amounts
        paths = dict.fromkeys([*before, *after])
        return [path for path in paths if before.get(path, 0) != after.get(path, 0)]


class Dependence:
    """Finds the dimensions that the multiply-accumulates of each module depend on.

    A module depends on the dimensions of the mutables around it. Where a mutable changes the
    shapes it gives out, modules that come later depend on its dimensions, too: these are found by
    changing one dimension at a time. What single changes do not show comes out when more points
    are run, as two of them that should cost the same and do not; then one is turned into the other
    dimension by dimension.

    Args:
        space: the supernet.
        runs: of it.

    Attributes:
        groups: path of each module that was seen to the dimensions it depends on, rising.
    """

    def __init__(self, space: Supernet, runs: CountedRuns) -> None:
        self.space, self.runs = space, runs
        self.numbering, self._nesting = Numbering(space), Nesting(space)
        self.groups: dict[str, Group] = {}
        self._find()

    def points(self) -> list[np.ndarray]:
        """Run points that show every combination that any module depends on, and return them.

        Raises:
            ConfigError: a module depends on so many dimensions that this would take too long.
        """
        while True:
            before = dict(self.groups)
            for path, group in before.items():
                self._check_runs(path, group)
            points = covering(before.values(), self.space.counts, self.space.canonical)
            for point in points:
                self._observe(point)
            self._compare()
            if self.groups == before:
                return points

    def _check_runs(self, path: str, group: Group) -> None:
        dimensions = [self.space.dimensions[d] for d in group]
        runs = math.prod(len(d.values) for d in dimensions)
        if runs > _MOST_RUNS:
            raise ConfigError(
                f"what {path or 'the model'} costs depends on {len(group)} dimensions "
                f"({', '.join(d.name for d in dimensions[:3])}, …) with {runs:,} combinations of "
                f"values, and {_MOST_RUNS:,} are the most that are counted; give fewer values or "
                f"leave some layers as they are, or use a cost model of your own"
            )

    def _find(self) -> None:
        singles = [self.numbering.closed([d]) for d in range(len(self.space.counts))]
        shown = covering(singles, self.space.counts, self.space.canonical)
        for point in shown or [np.zeros(0, dtype=np.int64)]:
            self._observe(point)
        changing = self._changing()
        for base in self._bases(shown) if changing else ():
            for dimension in changing:
                self._flip(base, dimension)

    def _observe(self, point: np.ndarray) -> Observation:
        seen = self.runs.at(point)
        for path in seen.amounts:
            if path not in self.groups:
                self.groups[path] = self._structural(path)
        return seen

    def _structural(self, path: str) -> Group:
        around = (mutable for way in self._nesting.around(path) for mutable, _ in way)
        return self.numbering.of(d.name for mutable in around for d in mutable.dimensions)

    def _changing(self) -> list[int]:
        """Return the dimensions that may change shapes: of mutables that saw or made several."""
        found: set[int] = set()
        for path, mutable in self.space.mutables.items():
            forms = {tuple(seen.forms[path]) for _, seen in self.runs if path in seen.forms}
            if len(forms) > 1 or len(mutable.dimensions) > 1:
                found.update(self.numbering.of(d.name for d in mutable.dimensions))
        return sorted(found)

    def _bases(self, points: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return a few points at one of which each module runs."""
        ran = {i: set(self.runs.at(point).amounts) for i, point in enumerate(points)}
        left, bases = set().union(*ran.values()), []
        while left:
            best = max(ran, key=lambda i: len(ran[i] & left))
            bases.append(points[best])
            left -= ran[best]
        return bases

    def _flip(self, base: np.ndarray, dimension: int) -> None:
        """Change one dimension of a point, as far as it goes."""
        other = base.copy()
        last = int(self.space.counts[dimension]) - 1
        other[dimension] = last if base[dimension] != last else 0
        other = self.space.canonical(other[None])[0]
        self._learn(Change(self._observe(base), self._observe(other)), dimension)

    def _learn(self, change: Change, dimension: int) -> None:
        for path in change.changed():
            self.groups[path] = self.numbering.closed([*self.groups[path], dimension])

    def _compare(self) -> None:
        """Learn from the first two runs that differ where they should not, if there are any."""
        pairs = (self._contradiction(path) for path in self.groups)
        pair = next((pair for pair in pairs if pair is not None), None)
        if pair is not None:
            self._walk(*pair)

    def _contradiction(self, path: str) -> tuple[np.ndarray, np.ndarray] | None:
        group = list(self.groups[path])
        first: dict[bytes, tuple[np.ndarray, float]] = {}
        for point, seen in self.runs:
            amount = seen.amounts.get(path, 0)
            before, known = first.setdefault(point[group].tobytes(), (point, amount))
            if known != amount:
                return before, point
        return None

    def _walk(self, start: np.ndarray, end: np.ndarray) -> None:
        """Turn one point into another by one dimension at a time."""
        here, before = start.copy(), self._observe(start)
        for dimension in np.flatnonzero(start != end).tolist():
            here[dimension] = end[dimension]
            after = self._observe(self.space.canonical(here[None])[0])
            self._learn(Change(before, after), dimension)
            before = after
