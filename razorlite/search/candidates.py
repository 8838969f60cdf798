"""Where searchers get points from: new, allowed, and drawn from one random state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from razorlite.core.errors import BudgetError
from razorlite.cost import Constraint, CostModel, shown
from razorlite.search.feasible import Feasible
from razorlite.search.seen import Seen
from razorlite.space import ChoiceSpace

_BLOCK = 4096  # points drawn at once
_BLOCKS = 8  # blocks drawn before walking
_WALKS = 100  # walks in a row that may fail
_POOL_WALKS = 20  # walks for a pool where rejection finds nothing
_SMALL = 100_000  # spaces up to this size are listed instead of sampled


class Candidates:
    """Gives out points of a space that meet a constraint, each once.

    Points are (M,) int64 arrays of indices. Drawing is by rejection; where a constraint is so tight
    that rejection finds too few, random points walk towards it, by one or two changes at a time.

    Args:
        space: the dimensions and their values.
        table: costs of the space's points, such as a `CostTable`; needed where there is a
            constraint.
        constraint: what a point may cost.
        seed: of all random choices.

    Attributes:
        feasible: the costs of points, and which of them may be tried.
        seen: what was given out; a resumed study restores it.
        rng: the random state; searchers draw from it, too.

    Raises:
        ConfigError: there is a constraint and no table.
    """

    def __init__(
        self,
        *,
        space: ChoiceSpace,
        table: CostModel | None = None,
        constraint: Constraint | None = None,
        seed: int = 0,
    ) -> None:
        self.space, self.seed = space, seed
        self.feasible = Feasible(table, constraint or Constraint())
        self.rng = np.random.default_rng(seed)
        self.seen = Seen(space)
        self._listed: np.ndarray | None = None

    @property
    def table(self) -> CostModel | None:
        """The costs of the space's points."""
        return self.feasible.table

    @property
    def constraint(self) -> Constraint:
        """What a point may cost."""
        return self.feasible.constraint

    def allowed(self, points: np.ndarray) -> np.ndarray:
        """Return which of (N, D) points meet the constraint, (N,) bool."""
        return self.feasible(self.space.canonical(points))

    def take(self, point: np.ndarray) -> bool:
        """Give out a point if it is new and allowed; return whether it was."""
        if point in self.seen or not self.allowed(point[None])[0]:
            return False
        return self.seen.add(point)

    def random(self, count: int) -> np.ndarray:
        """Give out up to `count` random points, (N, D); fewer where no more are found.

        Raises:
            BudgetError: none was found, and none was given out before.
        """
        small = self.space.size <= _SMALL
        found = self._chosen(count) if small else self._sampled(count)
        if count and not found and not len(self.seen):
            raise self.none_found()
        return self.stacked(found)

    def listed(self) -> np.ndarray:
        """Return all (N, D) points that meet the constraint, the last dimension varying fastest."""
        if self._listed is None:
            points = self.space.all_indices()
            self._listed = points[self.allowed(points)]
        return self._listed

    def stacked(self, points: Sequence[np.ndarray]) -> np.ndarray:
        """Return (D,) points as (N, D) int64, also where there is none."""
        return np.array(points, dtype=np.int64).reshape(len(points), len(self.space.counts))

    def none_found(self) -> BudgetError:
        """Return the error to raise where no candidate meets the constraint."""
        return BudgetError(
            f"no candidate meets {self.constraint}{self._nearest()}; widen the constraints"
        )

    def repaired(self, point: np.ndarray) -> np.ndarray | None:
        """Give out the allowed point that a random walk from `point` ends in.

        Returns:
            The point, or None if the walk got stuck or ended in one that was given out before.
        """
        if self.table is None:
            return None
        end = self._walk(point)
        return end if end is not None and self.take(end) else None

    def neighbours(self, point: np.ndarray) -> np.ndarray:
        """Return the new and allowed points that differ from a (D,) one by one change, (N, D)."""
        points = np.unique(
            self.space.canonical(self._moved(point, self._changes(point)[:, None])), axis=0
        )
        return self.new(points)

    def new(self, points: np.ndarray) -> np.ndarray:
        """Return those of (N, D) points that are allowed and were not given out, canonical."""
        points = self.space.canonical(points)
        found: np.ndarray = points[self.feasible(points) & self.seen.new(points)]
        return found

    def pool(self, count: int) -> np.ndarray:
        """Return up to `count` random new points, (N, D), without giving them out."""
        if self.space.size <= _SMALL:
            points = self.listed()
            points = points[self.rng.permutation(len(points))[: count + len(self.seen)]]
        else:
            points = self.space.random_indices(self.rng, _BLOCK)
        found = np.unique(self.new(points), axis=0)
        if not len(found):
            ends = [self._walk(p) for p in self.space.random_indices(self.rng, _POOL_WALKS)]
            found = self.new(self.stacked([end for end in ends if end is not None]))
        return found[self.rng.permutation(len(found))[:count]]

    def mutated(self, point: np.ndarray, tries: int = 10) -> np.ndarray | None:
        """Give out a point that differs from a (D,) one by a random change, or by a few of them.

        Where no single change is new and allowed, a random walk is taken to where one is.

        Returns:
            The point, or None where `tries` walks have found none.
        """
        near = self.neighbours(point)
        if len(near):
            chosen = near[self.rng.integers(len(near))]
            return chosen if self.take(chosen) else None
        for _ in range(tries):
            point = self._stepped(point)
            if self.take(point):
                return point
            found = self.repaired(point)
            if found is not None:
                return found
        return None

    def _stepped(self, point: np.ndarray) -> np.ndarray:
        """Return a (D,) point after a random change, allowed or not."""
        changes = self._changes(point)
        if not len(changes):
            return point
        pick = changes[self.rng.integers(len(changes))]
        stepped: np.ndarray = self.space.canonical(self._moved(point, pick[None, None]))[0]
        return stepped

    def _chosen(self, count: int) -> list[np.ndarray]:
        points = self.listed()
        found: list[np.ndarray] = []
        for i in self.rng.permutation(len(points)):
            if len(found) == count:
                break
            if self.take(points[i]):
                found.append(points[i])
        return found

    def _sampled(self, count: int) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        for _ in range(_BLOCKS):
            points = self.space.random_indices(self.rng, _BLOCK)
            for point in points[self.allowed(points)]:
                if len(found) < count and self.take(point):
                    found.append(point)
            if len(found) == count:
                return found
        return found + self._walked(count - len(found))

    def _walked(self, count: int) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        failures = 0
        while len(found) < count and failures < _WALKS:
            point = self.repaired(self.space.random_indices(self.rng, 1)[0])
            failures = failures + 1 if point is None else 0
            if point is not None:
                found.append(point)
        return found

    def _walk(self, point: np.ndarray) -> np.ndarray | None:
        """Change dimensions at random, each time nearer to the constraint, until it is met."""
        point = self.space.canonical(point[None])[0].copy()
        excess = float(self.feasible.excess(point[None])[0])
        while excess > 0:
            moves, left = self._single_moves(point)
            if not (left < excess).any():
                moves, left = self._pair_moves(point)
            better = np.flatnonzero(left < excess)
            if not len(better):
                return None
            pick = self.rng.choice(better)
            for dimension, value in moves[pick]:
                point[dimension] = value
            excess = float(left[pick])
        return point

    def _single_moves(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (K, 1, 2) dimension and value of each change, and (K,) the excess it leaves."""
        moves = self._changes(point)[:, None]
        return moves, self._left(point, moves)

    def _pair_moves(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (K, 2, 2) dimensions and values of each pair of changes, and (K,) the excess."""
        changes = self._changes(point)
        first, second = np.nonzero(changes[:, None, 0] < changes[None, :, 0])
        moves = np.stack([changes[first], changes[second]], axis=1)
        return moves, self._left(point, moves)

    def _left(self, point: np.ndarray, moves: np.ndarray) -> np.ndarray:
        """Return the (K,) excess of a point after each of (K, J, 2) sets of changes."""
        return self.feasible.excess(self.space.canonical(self._moved(point, moves)))

    @staticmethod
    def _moved(point: np.ndarray, moves: np.ndarray) -> np.ndarray:
        """Return a (D,) point after each of (K, J, 2) sets of changes, (K, D)."""
        points = np.tile(point, (len(moves), 1))
        points[np.arange(len(moves))[:, None], moves[..., 0]] = moves[..., 1]
        return points

    def _changes(self, point: np.ndarray) -> np.ndarray:
        """Return (K, 2), dimension and value of each single change."""
        choices = np.arange(self.space.counts.max())
        usable = (choices < self.space.counts[:, None]) & (choices != point[:, None])
        return np.stack(np.nonzero(usable), axis=1)

    def _nearest(self) -> str:
        """Say what the nearest of some random points costs."""
        if self.table is None:
            return ""
        points = self.space.random_indices(np.random.default_rng(0), _BLOCK)
        nearest = points[self.feasible.excess(points).argmin()]
        costs = ", ".join(f"{n} {shown(v)}" for n, v in self.feasible.cost(nearest).items())
        return f"; the nearest of {_BLOCK} random ones has {costs}"
