"""Where searchers get points from: new, allowed, and drawn from one random state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from razorlite.core.errors import BudgetError
from razorlite.cost import Constraint, CostModel, shown
from razorlite.search.feasible import Feasible
from razorlite.space import ChoiceSpace

_BLOCK = 4096  # points drawn at once
_BLOCKS = 8  # blocks drawn before walking
_WALKS = 100  # walks in a row that may fail
_SMALL = 100_000  # spaces up to this size are listed instead of sampled


class Candidates:
    """Gives out points of a space that meet a constraint, each once.

    Points are (M,) int64 arrays of indices. Drawing is by rejection; where a constraint is so tight
    that rejection finds too few, random points walk towards it, by one or two changes at a time.

    Args:
        space: the places and their choices.
        table: costs of the space's points, such as a `CostTable`; needed where there is a
            constraint.
        constraint: what a point may cost.
        seed: of all random choices.

    Attributes:
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
        self._taken: dict[bytes, None] = {}

    @property
    def table(self) -> CostModel | None:
        """The costs of the space's points."""
        return self.feasible.table

    @property
    def constraint(self) -> Constraint:
        """What a point may cost."""
        return self.feasible.constraint

    def allowed(self, points: np.ndarray) -> np.ndarray:
        """Return which of (N, M) points meet the constraint, (N,) bool."""
        return self.feasible(self.space.canonical(points))

    def take(self, point: np.ndarray) -> bool:
        """Give out a point if it is new and allowed; return whether it was."""
        key = self.space.canonical(point[None])[0].astype(np.int64).tobytes()
        if key in self._taken or not self.allowed(point[None])[0]:
            return False
        self._taken[key] = None
        return True

    def random(self, count: int) -> list[np.ndarray]:
        """Give out up to `count` random points; fewer where no more are found.

        Raises:
            BudgetError: none was found, and none was given out before.
        """
        found = self._listed(count) if self.space.size <= _SMALL else self._sampled(count)
        if not found and not self._taken:
            raise BudgetError(
                f"no candidate meets {self.constraint}{self._nearest()}; widen the constraints"
            )
        return found

    def repaired(self, point: np.ndarray) -> np.ndarray | None:
        """Give out the allowed point that a random walk from `point` ends in.

        Returns:
            The point, or None if the walk got stuck or ended in one that was given out before.
        """
        if self.table is None:
            return None
        end = self._walk(point)
        return end if end is not None and self.take(end) else None

    def state_dict(self) -> dict[str, Any]:
        """Return the random state and what was given out, as plain values."""
        taken = [np.frombuffer(key, dtype=np.int64).tolist() for key in self._taken]
        return {"rng": self.rng.bit_generator.state, "taken": taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.rng.bit_generator.state = state["rng"]
        keys = [np.array(point, dtype=np.int64).tobytes() for point in state["taken"]]
        self._taken = dict.fromkeys(keys)

    def _listed(self, count: int) -> list[np.ndarray]:
        points = self.space.all_indices()
        points = points[self.allowed(points)]
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
        """Change places at random, each time nearer to the constraint, until it is met."""
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
            for place, choice in moves[pick]:
                point[place] = choice
            excess = float(left[pick])
        return point

    def _single_moves(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (K, 1, 2) place and choice of each change, and (K,) the excess it leaves."""
        moves = self._changes(point)[:, None]
        return moves, self._left(point, moves)

    def _pair_moves(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (K, 2, 2) places and choices of each pair of changes, and (K,) the excess."""
        changes = self._changes(point)
        first, second = np.nonzero(changes[:, None, 0] < changes[None, :, 0])
        moves = np.stack([changes[first], changes[second]], axis=1)
        return moves, self._left(point, moves)

    def _left(self, point: np.ndarray, moves: np.ndarray) -> np.ndarray:
        """Return the (K,) excess of a point after each of (K, J, 2) sets of changes."""
        points = np.tile(point, (len(moves), 1))
        points[np.arange(len(moves))[:, None], moves[..., 0]] = moves[..., 1]
        return self.feasible.excess(self.space.canonical(points))

    def _changes(self, point: np.ndarray) -> np.ndarray:
        """Return (K, 2), place and choice of each single change."""
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
