"""Samplers of Optuna as searchers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count
from razorlite.core.registry import register
from razorlite.search.candidates import Candidates
from razorlite.search.history import HistorySearcher

_TRIES = 50  # suggestions for each candidate that is wanted


@register()
class OptunaSearcher(HistorySearcher):
    """Proposes what a sampler of Optuna suggests; install `razorlite[optuna]`.

    Each batch has a sampler of its own, seeded by the seed and the number of trials so far, that
    is given all trials; so a search resumes exactly whatever state a sampler has. Suggestions that
    are not new or beyond the constraint are asked for again, and count as failed for the sampler;
    where too many are, random candidates take their place.

    Optuna, https://arxiv.org/abs/1907.10902.
    """

    one_objective = False

    def __init__(
        self,
        *,
        candidates: Candidates,
        max_trials: Count = 300,
        sampler: Literal["tpe", "nsga2", "gp", "random"] = "tpe",
        batch_size: Count = 1,
    ) -> None:
        """Keep the settings.

        Args:
            candidates: where points come from.
            max_trials: how many to propose in all.
            sampler: of Optuna; gp needs nothing but torch, too, and understands one objective.
            batch_size: how many to propose at a time.

        Raises:
            ConfigError: Optuna is not installed.
        """
        super().__init__(candidates, max_trials=max_trials, batch_size=batch_size, sampler=sampler)
        self._optuna, self._sampler = _imported(), sampler

    def propose(self, count: int) -> list[np.ndarray]:
        """Give out up to `count` (D,) points."""
        if not self.history:
            return self.filled([], count)
        study = self._study()
        found: list[np.ndarray] = []
        for _ in range(_TRIES * count):
            if len(found) == count:
                break
            trial = study.ask()
            point = self._suggested(trial)
            if self.candidates.take(point):
                found.append(point)
            else:
                study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        return self.filled(found, count)

    def _study(self) -> Any:
        """Return a study that holds all trials."""
        directions = ["maximize"] * len(self.history[0].values)
        study = self._optuna.create_study(sampler=self._seeded(), directions=directions)
        distributions = self._distributions()
        study.add_trials(
            [
                self._optuna.trial.create_trial(
                    params=self._named(point), distributions=distributions, values=trial.values
                )
                for trial, point in zip(self.history, self._points, strict=True)
            ]
        )
        return study

    def _seeded(self) -> Any:
        names = {
            "tpe": "TPESampler",
            "nsga2": "NSGAIISampler",
            "gp": "GPSampler",
            "random": "RandomSampler",
        }
        seed = int(np.random.SeedSequence([self.candidates.seed, self.told]).generate_state(1)[0])
        return getattr(self._optuna.samplers, names[self._sampler])(seed=seed)

    def _suggested(self, trial: Any) -> np.ndarray:
        """Return the canonical (D,) point that a trial of Optuna stands for."""
        names = self._distributions()
        values = [trial.suggest_categorical(n, d.choices) for n, d in names.items()]
        point: np.ndarray = self.candidates.space.canonical(np.array([values], dtype=np.int64))[0]
        return point

    def _distributions(self) -> Mapping[str, Any]:
        counts = self.candidates.space.counts.tolist()
        kind = self._optuna.distributions.CategoricalDistribution
        return {f"{i}": kind(tuple(range(count))) for i, count in enumerate(counts)}

    @staticmethod
    def _named(point: Sequence[int] | np.ndarray) -> dict[str, int]:
        return {f"{i}": int(value) for i, value in enumerate(point)}


def _imported() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("OptunaSearcher needs Optuna; pip install 'razorlite[optuna]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
