"""What a search has given out and scored."""

from __future__ import annotations

import numpy as np

from razorlite.search.trial import Trial
from razorlite.space import ChoiceSpace


class Seen:
    """Points of a space that were given out, each once, and the trials of those that were scored.

    Points are compared in their canonical form, so that all ways to write one subnet are one point:
    no candidate is proposed or paid for twice.

    Args:
        space: whose points they are.
    """

    def __init__(self, space: ChoiceSpace) -> None:
        self._space = space
        self._trials: dict[bytes, Trial | None] = {}

    @property
    def trials(self) -> list[Trial]:
        """Return the trials of all points that were scored, by number."""
        known = [trial for trial in self._trials.values() if trial is not None]
        return sorted(known, key=lambda trial: trial.number)

    def __len__(self) -> int:
        return len(self._trials)

    def __contains__(self, point: np.ndarray) -> bool:
        """Return whether a (D,) point was given out."""
        return self._key(point) in self._trials

    def new(self, points: np.ndarray) -> np.ndarray:
        """Return which of (N, D) canonical points were not given out, (N,) bool."""
        rows = np.ascontiguousarray(points, dtype=np.int64)
        return np.array([row.tobytes() not in self._trials for row in rows], dtype=bool)

    def add(self, point: np.ndarray) -> bool:
        """Give out a (D,) point; return whether it is new."""
        key = self._key(point)
        if key in self._trials:
            return False
        self._trials[key] = None
        return True

    def keep(self, point: np.ndarray, trial: Trial) -> None:
        """Keep what came of a (D,) point; of several trials the first counts."""
        key = self._key(point)
        self._trials[key] = self._trials.get(key) or trial

    def trial(self, point: np.ndarray) -> Trial | None:
        """Return what came of a (D,) point; None where it was not scored."""
        return self._trials.get(self._key(point))

    def _key(self, point: np.ndarray) -> bytes:
        canonical: np.ndarray = self._space.canonical(point[None])[0]
        return canonical.astype(np.int64).tobytes()
