"""Points of a space as one would choose them by hand: the same share for all of a kind."""

import math
from itertools import product

import numpy as np

from razorlite.core.errors import ConfigError
from razorlite.search.candidates import Candidates
from razorlite.space import ChoiceSpace, Dimension

_MOST = 1024  # points of a grid


def even_grid(space: ChoiceSpace) -> np.ndarray:
    """Return (N, D) points in which all dimensions of a kind have the same share of their values.

    A kind is what the last word of a dimension's name says, such as the widths of all layers, the
    depths of all stages or the scale of the images; each has each share, whatever the others have.

    Raises:
        ConfigError: there are too many to look at, as too few dimensions are alike.
    """
    kinds: dict[str, list[int]] = {}
    for number, dimension in enumerate(space.dimensions):
        kinds.setdefault(_kind(dimension), []).append(number)
    ladders = [[_ladder(space.dimensions[i]) for i in numbers] for numbers in kinds.values()]
    levels = [max(map(len, own)) for own in ladders]
    count = math.prod(levels)
    if count > _MOST:
        raise ConfigError(
            f"search.even_first: {count} subnets of this space are even, as its dimensions are of "
            f"{len(kinds)} kinds ({', '.join(list(kinds)[:3])}, ...); leave even_first out"
        )
    points = np.zeros((count, len(space.counts)), dtype=np.int64)
    for point, chosen in zip(points, product(*map(range, levels)), strict=True):
        for numbers, own, level, most in zip(kinds.values(), ladders, chosen, levels, strict=True):
            point[numbers] = [_value_at(ladder, level, most) for ladder in own]
    return np.unique(space.canonical(points), axis=0)


def most_even(candidates: Candidates) -> np.ndarray:
    """Return (N, D) even points that may be scored and of which no other has more of anything.

    Raises:
        ConfigError: as of `even_grid`.
    """
    space = candidates.space
    points = even_grid(space)
    points = points[candidates.allowed(points)]
    beaten = [any(_has_more(space, other, point) for other in points) for point in points]
    kept: np.ndarray = points[~np.array(beaten, dtype=bool)]
    return kept


def _has_more(space: ChoiceSpace, point: np.ndarray, other: np.ndarray) -> bool:
    """Return whether a point's numbers are as large as those of another, and not all the same."""
    for dimension, own, less in zip(space.dimensions, point.tolist(), other.tolist(), strict=True):
        more = dimension.numeric and dimension.values[own] > dimension.values[less]
        if own != less and not more:
            return False
    return not np.array_equal(point, other)


def _kind(dimension: Dimension) -> str:
    words = [part for part in dimension.name.split(".") if not part.isdigit()]
    return words[-1] if words else ""


def _ladder(dimension: Dimension) -> list[int]:
    """Return the indices of the values, from the least on; of operations in their order."""
    indices = list(range(len(dimension.values)))
    return sorted(indices, key=dimension.values.__getitem__) if dimension.numeric else indices


def _value_at(ladder: list[int], level: int, levels: int) -> int:
    """Return the value at a level of so many; of a shorter ladder the nearest."""
    return ladder[round(level * (len(ladder) - 1) / max(1, levels - 1))]
