"""What a configuration says about a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from razorlite.core.config import Partial
from razorlite.core.ranges import Count, Positive, Whole, checked
from razorlite.cost import Constraint, CostModel
from razorlite.search.candidates import Candidates
from razorlite.search.continued import ContinuedSearcher, begun_with, continued
from razorlite.search.elastic import Elastic, ElasticConfig
from razorlite.search.even import most_even
from razorlite.search.evolution import EvolutionSearcher
from razorlite.search.objectives import Direction, Objectives
from razorlite.search.remembered import RememberingWorkers
from razorlite.search.searcher import Searcher
from razorlite.search.study import Progress, Study
from razorlite.search.trial import Trial
from razorlite.search.workers import ProcessWorkers, Score, Workers
from razorlite.space import ChoiceSpace


@checked
@dataclass(frozen=True, kw_only=True)
class RetrainingConfig:
    """Subnets that are trained after a search and evaluated on `data.val`.

    They say how far the supernet's ranking can be trusted, whether the chosen subnet beats random
    ones of its budget, and what the same detector scaled by hand reaches, all trained equally.

    Attributes:
        config: the configuration that they are trained with; the search's own by default, for a
            tenth of its steps.
        start: inherit starts from the path's weights in the supernet (detectors scaled by hand from
            those of the largest path, as much of it as they have); fresh from none.
        steps: of each; by default those of `config`, a tenth of the search's own.
        seeds: trainings of the chosen subnet, which say what another seed changes.
        random: random subnets that cost about what the chosen one costs.
        across: further subnets, spread over the range of costs of the whole space.
        by_hand: budgets of the front at which the same detector is scaled by hand: narrower
            everywhere, at a lower resolution, and as the best even subnet of the supernet.
    """

    config: str | None = None
    start: Literal["inherit", "fresh"] = "inherit"
    steps: Count | None = None
    seeds: Count = 3
    random: Whole = 5
    across: Whole = 2
    by_hand: Whole = 1


@checked
@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """The `search` block.

    Attributes:
        searcher: how candidates are proposed.
        constraints: macs and params to the most allowed, or to [least, most]: numbers, text such as
            "300M", percentages of the largest subnet such as "60%", or the same as a share (0.6).
        costs: further kinds of cost besides macs and params, such as a `LatencyTable`; a class of
            one's own takes `space` and `shape` and has `names`, `many` and `bounds`, see
            `razorlite.cost.CostModel`.
        metric: what candidates are compared by, a metric of the evaluation or a kind of cost: a
            name (more is better), several names, or names to max or min, such as {AP: max, macs:
            min}. The chosen subnet is the best by the first.
        recalibrate_batches: training batches that refresh a candidate's batch-norm statistics; 0
            keeps those of the checkpoint.
        elastic: score candidates on a share of the images first, and the better part of each batch
            alone on all, such as {share: 0.2, keep: 0.3}; all on all images by default.
        even_first: begin with what one would choose by hand: of the subnets within the budget whose
            widths all have the same share, their depths another, and so on, those of which no other
            has more of anything. They count among the trials.
        max_trials: stop after so many candidates; the searcher's own end by default.
        worker_timeout: seconds after which a worker of a cluster that scores one candidate counts
            as hung.
        retries: how often a candidate is scored again whose worker has died or hung.
        latency_rounds: how often a search goes on with corrected predictions, at most, where a
            `LatencyTable` names how latency is measured and the subnet that was found takes longer
            than is allowed, or is more than 5 % off what was predicted.
        trust: how many of the best are evaluated once more at the end, for intervals over images
            in report.html; 0 for no report.
        random_control: score as many random candidates as the search has scored, which its best
            must beat; those that the search has scored cost nothing.
        retraining: train some subnets briefly after the search, for the report, and resumed with
            it; null leaves this out.
        allow_test_split: let candidates be scored on images that test metrics are reported on.
    """

    searcher: Partial[Searcher] = field(
        default_factory=lambda: Partial[Searcher](EvolutionSearcher)
    )
    constraints: dict[str, float | str | list[float | str | None]] = field(default_factory=dict)
    costs: list[Partial[CostModel]] = field(default_factory=list)
    metric: str | list[str] | dict[str, Direction] = "AP"
    recalibrate_batches: Whole = 20
    elastic: ElasticConfig | None = None
    even_first: bool = False
    max_trials: Count | None = None
    worker_timeout: Positive = 600.0
    retries: Whole = 3
    latency_rounds: Whole = 4
    trust: Whole = 5
    random_control: bool = True
    retraining: RetrainingConfig | None = field(default_factory=RetrainingConfig)
    allow_test_split: bool = False

    def __post_init__(self) -> None:
        objectives, kind = self.objectives, self.searcher.target
        if isinstance(kind, type) and issubclass(kind, Searcher):
            kind.check_objectives(objectives)

    @property
    def objectives(self) -> Objectives:
        """What candidates are compared by."""
        return Objectives.parse(self.metric)

    def build_searcher(self, candidates: Candidates) -> Searcher:
        """Return what proposes candidates.

        Raises:
            ConfigError: a setting is wrong, or its batches are too small for elastic scoring.
        """
        searcher = self.searcher(candidates=candidates)
        if self.elastic is not None:
            self.elastic.check(searcher)
        return searcher


def build_study(
    config: SearchConfig,
    *,
    space: ChoiceSpace,
    table: CostModel,
    score: Score,
    journal: str | Path | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    split: bool = True,
    progress: Progress | None = None,
    workers: Workers | None = None,
    elastic: Elastic | None = None,
    constraint: Constraint | None = None,
    known: Sequence[Trial] = (),
) -> Study:
    """Return the study that a configuration describes; see `Study` for the other arguments.

    Args:
        config: the `search` block.
        space: what is searched.
        table: costs of its points.
        score: candidate to metrics by name.
        journal: file of the trials.
        seed: of the proposals.
        settings: what else must be equal for a resumed study.
        split: whether processes take different candidates.
        progress: called with the study and each new trial.
        workers: where candidates are scored.
        elastic: what scores them on the first images, where the configuration asks for that.
        constraint: what a candidate may cost; the configuration's by default.
        known: trials of a search before, from which this one goes on for a quarter of their number.

    Raises:
        BudgetError: a constraint cannot be met; the message names the reachable range.
        ConfigError: a setting is wrong.
    """
    limits = constraint or Constraint.parse(config.constraints, table)
    searcher = config.build_searcher(
        Candidates(space=space, table=table, constraint=limits, seed=seed)
    )
    most = config.max_trials
    if config.even_first and not known:
        searcher = begun_with(searcher, most_even(searcher.candidates))
    if known:
        searcher = continued(searcher, known)
        most = _more(searcher, known, most)
        workers = RememberingWorkers.of(workers or ProcessWorkers(split=split), known)
    return Study(
        searcher=searcher,
        score=score,
        journal=journal,
        metric=config.metric,
        settings=settings,
        max_trials=most,
        split=split,
        progress=progress,
        workers=workers,
        elastic=elastic,
    )


def _more(searcher: Searcher, known: Sequence[Trial], most: int | None) -> int | None:
    """Return how many trials a search has that goes on from others."""
    if not isinstance(searcher, ContinuedSearcher):
        return most
    return len(searcher.points) + max(1, len(known) // 4)
