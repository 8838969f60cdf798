"""Elastic scoring: all candidates of a batch on a few images, the better part of them on all."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from razorlite.core.errors import ConfigError
from razorlite.core.progress import progress
from razorlite.core.ranges import OpenShare, checked
from razorlite.search.batch import Batch
from razorlite.search.evaluator import Evaluator
from razorlite.search.nsga import survivors
from razorlite.search.ranking import kendall_tau
from razorlite.search.records import SearchJournal
from razorlite.search.searcher import Searcher
from razorlite.search.trial import Trial
from razorlite.search.workers import Outcome, Score

_log = logging.getLogger("razorlite")


@checked
@dataclass(frozen=True, kw_only=True)
class ElasticConfig:
    """Successive halving in two rounds, within each batch of candidates.

    Attributes:
        share: of the search's images, on which all candidates are scored first; the same for all,
            chosen by their names.
        keep: share of a batch's candidates, the better ones on these images, that are scored on all
            images, at least one; only they may win.

    https://arxiv.org/abs/1502.07943, figure 3.
    """

    share: OpenShare = 0.2
    keep: OpenShare = 0.3

    def check(self, searcher: Searcher) -> None:
        """Refuse a searcher whose batches are too small for a candidate to be left out.

        Raises:
            ConfigError: names the size that is needed.
        """
        size = searcher.batch_size
        if size is not None and _kept(size, self.keep) == size:
            least = next(n for n in range(size, 10**9) if _kept(n, self.keep) < n)
            raise ConfigError(
                f"search.elastic.keep {self.keep:g} of the {size} candidates that "
                f"{searcher.name} proposes at a time is all of them; let it propose "
                f"{least} or more (batch_size, population_size), or leave out search.elastic"
            )


@dataclass(frozen=True, kw_only=True)
class Elastic:
    """How the candidates of a study are scored on a few images first.

    Attributes:
        config: how many images and candidates.
        score: candidate to its metrics on the first images.
        first_images: their number.
        images: the number of all images.
    """

    config: ElasticConfig
    score: Score
    first_images: int
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Return what decides proposals and scores, for a journal's first line."""
        config = {"share": self.config.share, "keep": self.config.keep}
        return {**config, "first_images": self.first_images, "images": self.images}


@dataclass(frozen=True)
class FirstTrial:
    """A candidate on the first images.

    Attributes:
        trial: its values are those of these images.
        images: their number.
    """

    trial: Trial
    images: int

    def to_record(self) -> dict[str, Any]:
        """Return the journal's line."""
        record = self.trial.to_record()
        return {"first": record.pop("trial"), "on_images": self.images, **record}


class FirstScores:
    """The scores of a batch's candidates on the first images, and which of them are promoted.

    Args:
        elastic: how they are scored.
        evaluator: of the first images; it keeps what it has scored by itself.
    """

    def __init__(self, elastic: Elastic, evaluator: Evaluator) -> None:
        self.elastic, self._evaluator = elastic, evaluator
        self._expected: list[Trial] = []
        self._trials: list[Trial] = []
        self._promoted: set[int] = set()

    @property
    def is_done(self) -> bool:
        """Whether all candidates of the batch are scored on the first images."""
        return len(self._trials) == len(self._expected)

    def begin(self, batch: Batch) -> None:
        """Take up a batch."""
        expected = self._evaluator.expected
        self._expected = [expected(batch.first + i, p) for i, p in enumerate(batch.points)]
        self._trials, self._promoted = [], set()

    def runs(self) -> Iterator[tuple[list[FirstTrial], Mapping[int, Outcome]]]:
        """Score what is left of the batch, and yield what came of it; see `Evaluator.run`."""
        starts = range(len(self._trials), len(self._expected), self._evaluator.size)
        for start in progress(starts, "rounds of candidates on the first images", len(starts)):
            yield self._run(start)

    def _run(self, start: int) -> tuple[list[FirstTrial], Mapping[int, Outcome]]:
        done, outcomes = self._evaluator.run(self._expected[start : start + self._evaluator.size])
        for trial in done:
            self._add(trial)
        if self.is_done:
            self._tell()
        return [FirstTrial(trial, self.elastic.first_images) for trial in done], outcomes

    def read(self, journal: SearchJournal, line: int, record: Mapping[str, Any]) -> None:
        """Take up a recorded candidate.

        Raises:
            RunFolderError: it is not the one that is due; names the line.
        """
        if self.is_done:
            journal.refuse(line, f"a batch of proposals is missing before {record['first']!r:.20}")
        if record.get("on_images") != self.elastic.first_images:
            journal.refuse(line, f"on_images wants {self.elastic.first_images}")
        known = {key: value for key, value in record.items() if key not in ("first", "on_images")}
        expected = self._expected[len(self._trials)]
        trial = {"trial": record["first"], **known}
        found = journal.trial(line, trial, expected, self._evaluator.objectives)
        self._evaluator.keep(found)
        self._add(found)

    def known(self, expected: Trial) -> Trial:
        """Return an expected trial with what came of it on the first images.

        One that is not promoted has its error, or no values for good.
        """
        first = self._trials[expected.number - self._expected[0].number]
        if first.number in self._promoted:
            images = self.elastic.images
            return replace(expected, first_values=first.values, images=images)
        images = 0 if expected.error is not None else self.elastic.first_images
        return replace(
            expected,
            first_values=first.values,
            images=images,
            promoted=False,
            error=first.error,
        )

    def _add(self, trial: Trial) -> None:
        self._trials.append(trial)
        if self.is_done:
            scored = [one for one in self._trials if one.values]
            best = survivors(scored)[: _kept(len(scored), self.elastic.config.keep)]
            self._promoted = {scored[i].number for i in best}

    def _tell(self) -> None:
        _log.info(
            "trials %d to %d are scored on %d of the %d images, the best %d of them go on to all",
            self._trials[0].number, self._trials[-1].number, self.elastic.first_images,
            self.elastic.images, len(self._promoted),
        )  # fmt: skip


@dataclass(frozen=True)
class ElasticResult:
    """What scoring on a few images first has saved, and how far it ranks as all images do.

    Attributes:
        candidates: how many were scored on the first images.
        promoted: how many of them on all.
        tau: Kendall's rank correlation of both scores among the promoted, of the first objective;
            None for fewer than two, or where all are equal.
        images: evaluations of images, as a share of those of all candidates on all images.
    """

    candidates: int
    promoted: int
    tau: float | None
    images: float

    @classmethod
    def of(cls, trials: Sequence[Trial], elastic: Elastic) -> ElasticResult:
        """Return the result of a study's trials."""
        tried = [trial for trial in trials if trial.images]
        promoted = [trial for trial in tried if trial.promoted]
        both = [(t.first_values[0], t.values[0]) for t in promoted if t.values]
        first = elastic.first_images / elastic.images
        share = first + len(promoted) / len(tried) if tried else 0.0
        return cls(len(tried), len(promoted), kendall_tau(*zip(*both, strict=True)), share)

    def __str__(self) -> str:
        saved = 1 - self.promoted / max(1, self.candidates)
        tau = "is not known" if self.tau is None else f"is {self.tau:.2f}"
        return (
            f"Elastic scoring: {self.promoted} of {self.candidates} candidates were scored on all "
            f"images, {saved:.0%} of the full evaluations were saved, images were evaluated "
            f"{self.images:.0%} as often; among those promoted, Kendall's tau between first and "
            f"final scores {tau}."
        )


def _kept(count: int, share: float) -> int:
    return math.ceil(count * share - 1e-9)
