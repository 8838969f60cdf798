"""Evolutionary search as in Single Path One-Shot NAS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, PositiveShare, Whole
from razorlite.core.registry import register
from razorlite.search.candidates import Candidates
from razorlite.search.searcher import Searcher
from razorlite.search.trial import Trial


@register()
class EvolutionSearcher(Searcher):
    """Rounds of mutation and crossover among the best so far.

    The first round is random. Each later one crosses pairs of the top, mutates random members of
    it, and fills up with random candidates; all are new and meet the constraint.

    Single Path One-Shot NAS, https://arxiv.org/abs/1904.00420, algorithm 1.
    """

    def __init__(
        self,
        *,
        candidates: Candidates,
        population_size: Count = 50,
        top_k: Count = 10,
        max_rounds: Count = 20,
        mutation_prob: PositiveShare = 0.1,
        num_mutation: Whole = 25,
        num_crossover: Whole = 25,
    ) -> None:
        """Keep the settings; the defaults are the paper's.

        Args:
            candidates: where points come from.
            population_size: candidates of a round.
            top_k: how many of the best are parents.
            max_rounds: rounds, the random one included.
            mutation_prob: chance of each dimension to be drawn anew.
            num_mutation: children of a round by mutation.
            num_crossover: children of a round by crossover.

        Raises:
            ConfigError: a setting is out of range.
        """
        if num_mutation + num_crossover > population_size:
            raise ConfigError(
                f"EvolutionSearcher: num_mutation {num_mutation} and num_crossover {num_crossover} "
                f"must fit into population_size {population_size}; lower them or raise it"
            )
        super().__init__(
            candidates,
            population_size=population_size,
            top_k=top_k,
            max_rounds=max_rounds,
            mutation_prob=mutation_prob,
            num_mutation=num_mutation,
            num_crossover=num_crossover,
        )
        self.population_size, self.top_k, self.max_rounds = population_size, top_k, max_rounds
        self.mutation_prob, self.batch_size = mutation_prob, population_size
        self.num_mutation, self.num_crossover = num_mutation, num_crossover
        self.total = population_size * max_rounds
        self.round = 0
        self._top: list[tuple[float, int, list[int]]] = []

    def ask(self) -> np.ndarray:
        """Return the candidates of the next round, (N, D); none when the search is over."""
        if self.round == self.max_rounds:
            return self.candidates.stacked([])
        self.round += 1
        children: list[np.ndarray] = []
        if self._top:
            children += self._children(self._crossed, self.num_crossover)
            children += self._children(self._mutated, self.num_mutation)
        fresh = self.candidates.random(self.population_size - len(children))
        return self.candidates.stacked([*children, *fresh])

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn from scored candidates; of equal scores, the earlier is the better."""
        for trial in trials:
            if trial.score is not None:
                point = self.candidates.space.encode(trial.subnet).tolist()
                self._top.append((-trial.score, trial.number, point))
        self._top = sorted(self._top)[: self.top_k]

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON's values."""
        top = [list(entry) for entry in self._top]
        return {**super().state_dict(), "round": self.round, "top": top}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.round = state["round"]
        self._top = [(score, number, list(point)) for score, number, point in state["top"]]

    def _children(self, make: Callable[[], np.ndarray], count: int) -> list[np.ndarray]:
        """Return up to `count` children; those over budget are repaired if too few are not."""
        found: list[np.ndarray] = []
        refused: list[np.ndarray] = []
        for _ in range(10 * count):
            if len(found) == count:
                return found
            child = make()
            (found if self.candidates.take(child) else refused).append(child)
        for child in refused:
            if len(found) == count:
                break
            if not self.candidates.allowed(child[None])[0]:
                repaired = self.candidates.repaired(child)
                found += [] if repaired is None else [repaired]
        return found

    def _parent(self) -> np.ndarray:
        return np.array(self._top[self.candidates.rng.integers(len(self._top))][2])

    def _mutated(self) -> np.ndarray:
        parent = self._parent()
        fresh = self.candidates.space.random_indices(self.candidates.rng, 1)[0]
        return np.where(self.candidates.rng.random(len(parent)) < self.mutation_prob, fresh, parent)

    def _crossed(self) -> np.ndarray:
        mother, father = self._parent(), self._parent()
        return np.where(self.candidates.rng.random(len(mother)) < 0.5, mother, father)
