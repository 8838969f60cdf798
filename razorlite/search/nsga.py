"""A genetic search for the whole front of several objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from razorlite.core.ranges import Count, Share
from razorlite.core.registry import register
from razorlite.search.candidates import Candidates
from razorlite.search.history import HistorySearcher
from razorlite.search.pareto import crowding, front_ranks
from razorlite.search.trial import Trial

_TRIES = 20  # children made for each that is wanted


@register()
class NSGA2Searcher(HistorySearcher):
    """Rounds of tournaments, crossover and mutation; fronts survive, the crowded part of one not.

    It understands any number of objectives, metrics and costs alike. A member wins a tournament if
    it is of an earlier front, or of the same one and less crowded. All children are new and meet
    the constraint; each dimension mutates with chance 1 / D.

    NSGA-II, https://doi.org/10.1109/4235.996017, section III.
    """

    one_objective = False

    def __init__(
        self,
        *,
        candidates: Candidates,
        max_trials: Count = 1000,
        population_size: Count = 50,
        crossover_prob: Share = 0.9,
    ) -> None:
        """Keep the settings; the chances are the paper's.

        Args:
            candidates: where points come from.
            max_trials: how many to propose in all.
            population_size: members of a generation, and candidates of a round.
            crossover_prob: chance that a child has two parents.

        Raises:
            ConfigError: a setting is out of range.
        """
        super().__init__(
            candidates,
            max_trials=max_trials,
            batch_size=population_size,
            population_size=population_size,
            crossover_prob=crossover_prob,
        )
        self.population_size, self.crossover_prob = population_size, crossover_prob
        self._members: list[Trial] = []  # the best first

    def propose(self, count: int) -> list[np.ndarray]:
        """Give out up to `count` (D,) points: random ones, then children."""
        found: list[np.ndarray] = []
        for _ in range(_TRIES * count if self._members else 0):
            if len(found) == count:
                break
            child = self._child()
            found += [child] if self.candidates.take(child) else []
        return self.filled(found, count)

    def tell(self, trials: Sequence[Trial]) -> None:
        """Remember the trials of a batch, and let the best of parents and children survive."""
        super().tell(trials)
        both = [*self._members, *(trial for trial in trials if trial.values)]
        self._members = [both[i] for i in survivors(both)[: self.population_size]]

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON's values."""
        return {**super().state_dict(), "members": [t.number for t in self._members]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        numbered = {trial.number: trial for trial in self.history}
        self._members = [numbered[number] for number in state["members"]]

    def _child(self) -> np.ndarray:
        rng, space = self.candidates.rng, self.candidates.space
        child, other = self._parent(), self._parent()
        if rng.random() < self.crossover_prob:
            child = np.where(rng.random(len(child)) < 0.5, child, other)
        fresh = space.random_indices(rng, 1)[0]
        mutated = np.where(rng.random(len(child)) < 1 / len(child), fresh, child)
        point: np.ndarray = space.canonical(mutated[None])[0]
        return point

    def _parent(self) -> np.ndarray:
        """Return the winner of a tournament of two; members are in order."""
        best = self.candidates.rng.integers(len(self._members), size=2).min()
        return self.candidates.space.encode(self._members[best].subnet)


def survivors(trials: Sequence[Trial]) -> list[int]:
    """Return trials' indices: earlier fronts first, the least crowded of a front first."""
    if not trials:
        return []
    values = np.array([trial.values for trial in trials])
    ranks = front_ranks(values)
    room = np.zeros(len(trials))
    for rank in set(ranks.tolist()):
        room[ranks == rank] = crowding(values[ranks == rank])
    order: list[int] = np.lexsort((-room, ranks)).tolist()
    return order
