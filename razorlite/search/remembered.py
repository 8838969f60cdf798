"""Workers that score nothing twice that another search has scored in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from razorlite.search.trial import Trial
from razorlite.search.workers import Attempt, Outcome, Workers
from razorlite.space import Subnet

Key = tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class RememberingWorkers:
    """Answers from what is known, and lets other workers score the rest.

    Attributes:
        workers: score what is not known.
        known: what came of candidates on all images, by their choices.
    """

    workers: Workers
    known: Mapping[Key, Outcome]

    @classmethod
    def of(cls, workers: Workers, trials: Sequence[Trial]) -> RememberingWorkers:
        """Return workers that know the trials which have values."""
        scored = [trial for trial in trials if trial.values]
        return cls(workers, {_key(t.subnet): Outcome(metrics=t.scores) for t in scored})

    @property
    def size(self) -> int:
        """How many candidates are scored at a time."""
        return self.workers.size

    def run(self, score: Attempt, candidates: Mapping[int, Subnet]) -> Mapping[int, Outcome]:
        """Return what came of each numbered candidate; on the first images nothing is known."""
        known = {} if score.on_first else self.known
        found = {n: known[_key(s)] for n, s in candidates.items() if _key(s) in known}
        rest = {n: subnet for n, subnet in candidates.items() if n not in found}
        return {**found, **self.workers.run(score, rest)}


def _key(subnet: Subnet) -> Key:
    return tuple(sorted(subnet.choices.items()))
