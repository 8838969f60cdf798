"""What a configuration says about a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from razorlite.core.config import Partial
from razorlite.core.ranges import Count, Positive, Whole, checked
from razorlite.cost import Constraint, CostModel
from razorlite.search.candidates import Candidates
from razorlite.search.elastic import Elastic, ElasticConfig
from razorlite.search.evolution import EvolutionSearcher
from razorlite.search.objectives import Direction, Objectives
from razorlite.search.searcher import Searcher
from razorlite.search.study import Progress, Study
from razorlite.search.workers import Score, Workers
from razorlite.space import ChoiceSpace


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
        max_trials: stop after so many candidates; the searcher's own end by default.
        worker_timeout: seconds after which a worker of a cluster that scores one candidate counts
            as hung.
        retries: how often a candidate is scored again whose worker has died or hung.
        trust: how many of the best are evaluated once more at the end, for intervals over images
            in report.html; 0 for no report.
        random_control: score as many random candidates as the search has scored, which its best
            must beat; those that the search has scored cost nothing.
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
    max_trials: Count | None = None
    worker_timeout: Positive = 600.0
    retries: Whole = 3
    trust: Whole = 5
    random_control: bool = True
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

    Raises:
        BudgetError: a constraint cannot be met; the message names the reachable range.
        ConfigError: a setting is wrong.
    """
    constraint = Constraint.parse(config.constraints, table)
    candidates = Candidates(space=space, table=table, constraint=constraint, seed=seed)
    return Study(
        searcher=config.build_searcher(candidates),
        score=score,
        journal=journal,
        metric=config.metric,
        settings=settings,
        max_trials=config.max_trials,
        split=split,
        progress=progress,
        workers=workers,
        elastic=elastic,
    )
