"""Which channels or cells of a layer stay, as the values of a point say."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from razorlite.core.errors import ConfigError
from razorlite.space.dimension import Dimension, Value, Values

Kept = range | tuple[int, ...]


class Side(ABC):
    """The channels on one side of a layer, or the cells along its kernel.

    Attributes:
        size: how many there are in all.
        follows: names of the dimensions that decide which stay.
    """

    size: int
    follows: tuple[str, ...] = ()

    @abstractmethod
    def kept(self, values: Values) -> Kept:
        """Return the numbers of those that stay, rising, at least one."""


class Whole(Side):
    """All of them stay."""

    def __init__(self, size: int) -> None:
        self.size = size

    def kept(self, values: Values) -> Kept:
        """Return all numbers."""
        return range(self.size)


class First(Side):
    """The first ones stay, as in slimmable networks, https://arxiv.org/abs/1812.08928.

    Args:
        dimension: its values are how many stay (whole numbers), or the share that does (floats).
        size: how many there are in all.
    """

    def __init__(self, dimension: Dimension, size: int) -> None:
        self.size, self.follows = size, (dimension.name,)
        _counts(dimension, size)

    def kept(self, values: Values) -> Kept:
        """Return the first numbers."""
        return range(_count(values[self.follows[0]], self.size))


class Counted(Side):
    """The first ones stay, as many as each value stands for.

    Args:
        dimension: its values may be anything, such as ratios.
        counts: how many stay at each value; the most is all there are.
    """

    def __init__(self, dimension: Dimension, counts: Mapping[Value, int]) -> None:
        self.size, self.follows = max(counts.values()), (dimension.name,)
        self.counts = dict(counts)

    def kept(self, values: Values) -> Kept:
        """Return the first numbers."""
        return range(self.counts[values[self.follows[0]]])


class Centre(Side):
    """The middle ones stay, as for the kernels of Once-for-All, https://arxiv.org/abs/1908.09791.

    Args:
        dimension: its values are how many stay.
        size: how many there are in all.
    """

    def __init__(self, dimension: Dimension, size: int) -> None:
        self.size, self.follows = size, (dimension.name,)
        for value, count in _counts(dimension, size).items():
            if (size - count) % 2:
                raise ConfigError(
                    f"dimension {dimension.name!r}: a kernel of {value} has no centre in one of "
                    f"{size}; both must be odd, or both even"
                )

    def kept(self, values: Values) -> Kept:
        """Return the middle numbers."""
        count = _count(values[self.follows[0]], self.size)
        first = (self.size - count) // 2
        return range(first, first + count)


def largest(dimension: Dimension) -> Value:
    """Return the value of a dimension of numbers that keeps the most."""
    return max(dimension.values, key=float)


def _count(value: Value, size: int) -> int:
    """Return how many stay of `size`."""
    return max(1, round(value * size)) if isinstance(value, float) else int(value)


def _counts(dimension: Dimension, size: int) -> dict[Value, int]:
    """Return how many stay of `size` at each value of a dimension."""
    if not dimension.numeric:
        raise ConfigError(f"dimension {dimension.name!r} wants numbers, got {_listed(dimension)}")
    counts = {value: _count(value, size) for value in dimension.values}
    if max(counts.values()) != size or min(counts.values()) < 1:
        raise ConfigError(
            f"dimension {dimension.name!r} wants counts from 1, or shares, of which the largest is "
            f"all {size}, got {_listed(dimension)}"
        )
    return counts


def _listed(dimension: Dimension) -> str:
    return ", ".join(map(str, dimension.values))


def followed(sides: Sequence[Side]) -> tuple[str, ...]:
    """Return the names of all dimensions that sides follow, each once."""
    return tuple(dict.fromkeys(name for side in sides for name in side.follows))
