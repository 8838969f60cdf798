"""Which dimensions of a space count at which of its points."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from razorlite.core.errors import ConfigError
from razorlite.core.registry import suggestion
from razorlite.space.dimension import Dimension

Points = NDArray[np.int64]
_OFF = -1  # in place of an index: the dimension does not count


class Conditions:
    """The conditions (`Dimension.when`) of all dimensions of a space.

    Points are (N, D) int64 indices into the dimensions' values.

    Args:
        dimensions: all of the space, in any order.

    Raises:
        ConfigError: a condition names no dimension or value of the space, or they lead in a circle.
    """

    def __init__(self, dimensions: Sequence[Dimension]) -> None:
        self._counts = [len(dimension.values) for dimension in dimensions]
        number = {dimension.name: i for i, dimension in enumerate(dimensions)}
        self._rules = {
            i: [
                (number[other], _allowed(dimension, dimensions[number[other]]))
                for other in _known(dimension, number)
            ]
            for i, dimension in enumerate(dimensions)
            if dimension.when
        }
        parents = {i: [other for other, _ in rules] for i, rules in self._rules.items()}
        self._order = list(_Order([dimension.name for dimension in dimensions], parents).found)

    def __bool__(self) -> bool:
        """Return whether any dimension has a condition."""
        return bool(self._rules)

    def active(self, points: Points) -> NDArray[np.bool_]:
        """Return which dimensions count at (N, D) points, as (N, D) bool."""
        active = np.ones(points.shape, dtype=bool)
        for i in self._order:
            for other, allowed in self._rules.get(i, ()):
                active[:, i] &= active[:, other] & allowed[points[:, other]]
        return active

    def canonical(self, points: Points) -> Points:
        """Return (N, D) points with 0 in the dimensions that do not count."""
        return np.where(self.active(points), points, 0) if self._rules else points

    def size(self) -> int:
        """Return how many points differ in what counts."""
        last = {o: at for at, i in enumerate(self._order) for o, _ in self._rules.get(i, ())}
        # how many ways there are, by the indices of the dimensions that later ones ask for
        ways: Counter[tuple[tuple[int, int], ...]] = Counter({(): 1})
        for at, i in enumerate(self._order):
            following: Counter[tuple[tuple[int, int], ...]] = Counter()
            for known, count in ways.items():
                for index, options in self._options(i, dict(known), asked=i in last).items():
                    kept = [pair for pair in (*known, (i, index)) if last.get(pair[0], -1) > at]
                    following[tuple(kept)] += count * options
            ways = following
        return ways.total()

    def all_points(self) -> Points:
        """Return (size, D), every point that differs in what counts, the last varying fastest."""
        points = np.zeros((1, len(self._counts)), dtype=np.int64)
        for i in self._order:
            options = np.where(self.active(points)[:, i], self._counts[i], 1)
            points = np.repeat(points, options, axis=0)
            first = np.repeat(np.cumsum(options) - options, options)
            points[:, i] = np.arange(len(points)) - first
        return points[np.lexsort(points.T[::-1])] if len(self._counts) else points

    def _options(self, i: int, known: dict[int, int], *, asked: bool) -> dict[int, int]:
        """Return the indices that a dimension may have and how many ways each stands for."""
        rules = self._rules.get(i, ())
        if any(known[o] == _OFF or not allowed[known[o]] for o, allowed in rules):
            return {_OFF: 1}
        return dict.fromkeys(range(self._counts[i]), 1) if asked else {0: self._counts[i]}


class _Order:
    """Sorts dimensions so that each comes after those that its condition names, and soon."""

    def __init__(self, names: Sequence[str], parents: Mapping[int, Sequence[int]]) -> None:
        self.names, self.parents = names, parents
        self.found: dict[int, None] = {}
        for i in range(len(names)):
            self._add(i, ())

    def _add(self, i: int, above: tuple[int, ...]) -> None:
        if i in above:
            circle = " -> ".join(self.names[j] for j in (*above[above.index(i) :], i))
            raise ConfigError(f"the conditions of dimensions lead in a circle: {circle}")
        if i in self.found:
            return
        for other in self.parents.get(i, ()):
            self._add(other, (*above, i))
        self.found[i] = None
        for child, others in self.parents.items():
            if i in others and self.found.keys() >= set(others):
                self._add(child, ())


def _known(dimension: Dimension, number: dict[str, int]) -> Sequence[str]:
    """Return the names in a dimension's condition, all of which must be there."""
    for other in dimension.when:
        if other not in number:
            raise ConfigError(
                f"dimension {dimension.name!r}: when names {other!r}, which is no dimension of the "
                f"space{suggestion(other, number)}"
            )
    return list(dimension.when)


def _allowed(dimension: Dimension, other: Dimension) -> NDArray[np.bool_]:
    """Return under which values of another dimension one counts."""
    values = dimension.when[other.name]
    for value in values:
        if value not in other.values:
            raise ConfigError(
                f"dimension {dimension.name!r}: when {other.name!r} wants some of "
                f"{', '.join(map(str, other.values))}, got {value!r}"
            )
    return np.array([value in values for value in other.values])
