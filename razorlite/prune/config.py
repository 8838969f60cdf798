"""What the `prune` block of a configuration may say."""

from dataclasses import dataclass, field
from typing import Annotated

from razorlite.core.config import Factory, Partial
from razorlite.core.ranges import Count, Filled, Share, checked
from razorlite.cost import LatencyConfig
from razorlite.engine.config import TrainConfig
from razorlite.engine.steps import Step
from razorlite.prune.allocation import Strategy
from razorlite.prune.budget import Budget
from razorlite.prune.data_importance import DataImportance
from razorlite.prune.importance import Importance, L1Importance
from razorlite.prune.parts import Kind
from razorlite.prune.per_cost import CostKind
from razorlite.prune.pruner import Pruner
from razorlite.prune.rounding import RoundTo
from razorlite.prune.stopwatch import Stopwatch
from razorlite.prune.trial import Trial


@checked
@dataclass(frozen=True, kw_only=True)
class Before:
    """A training of the whole model before channels go.

    Attributes:
        train: optimiser, schedule, length.
        step: SparseStep draws channels to zero; GradualStep masks them one by one, down to the
            budget, and so decides which ones go. A list of steps is one around another.
    """

    train: TrainConfig
    step: Partial[Step] | Annotated[list[Partial[Step]], Filled()]


@checked
@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """How to prune.

    Attributes:
        budget: what the slim model may cost: `{macs: 60%}` of the model that is given, however
            many rounds there are. A bare amount (60%, 0.6, 300M) limits the MACs.
        importance: which channels matter.
        round_to: a layer that shrinks keeps a multiple of this many channels, where it had a
            multiple before; auto times the model's layers in the runtime of `latency` and takes
            what they compute well with.
        min_keep: least share of each group, and of each layer in it, to keep.
        allocation: global compares channels of all layers, local keeps of each group the channels
            that hold the same share of its importance, uniform the same share of its channels.
        per: what importance is divided by: the macs, params, memory or (timed) latency that a
            channel costs.
        ignore: patterns of modules whose own channels all stay.
        leaves: patterns of modules that are not looked into; what they read stays.
        rounds: prune in so many rounds, with fine-tuning after each.
        latency: how milliseconds are measured, for `budget: {latency_ms: 50%}`, `round_to: auto`,
            `per: latency` and for the log.
        before: train the whole model first: sparsely, or with more and more channels masked.
        parts: what may go by this budget: channels; blocks, residual blocks of which the shortcut
            stays; the last decoder layers and the least useful queries of a DETR.
        batches: training batches on which the losses of models without some blocks, layers or
            queries are compared.
    """

    budget: Budget | float | str
    importance: Factory[Importance] = L1Importance  # type: ignore[assignment]
    round_to: RoundTo = 8
    min_keep: Share = 0.1
    allocation: Strategy = "global"
    per: CostKind = "none"
    ignore: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    rounds: Count = 1
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    before: Before | None = None
    parts: Annotated[list[Kind], Filled()] = field(default_factory=lambda: ["channels"])
    batches: Count = 4

    @property
    def tries(self) -> bool:
        """Whether models are compared by their losses."""
        return bool(set(self.parts) - {"channels"})

    @property
    def sees_images(self) -> bool:
        """Whether what goes depends on training images and what they show."""
        return self.tries or isinstance(self.importance(), DataImportance)

    @property
    def whole_budget(self) -> Budget:
        """The budget, as a block."""
        return self.budget if isinstance(self.budget, Budget) else Budget(macs=self.budget)

    def pruner(self, stopwatch: Stopwatch | None = None, trial: Trial | None = None) -> Pruner:
        """Return the pruner.

        Args:
            stopwatch: times slim models; without one all that is measured is left out: limits on
                latency, rounding and what scores are divided by.
            trial: losses of slim models; without one it can only be checked what parts may go.

        Raises:
            ConfigError: nothing else is limited, and there is no stopwatch.
        """
        budget, counts = self.whole_budget, stopwatch is None
        return Pruner(
            budget=budget.counted or budget if counts else budget,
            stopwatch=stopwatch,
            importance=self.importance(),
            round_to=1 if counts and self.round_to == "auto" else self.round_to,
            min_keep=self.min_keep,
            allocation=self.allocation,
            per="none" if counts and self.per == "latency" else self.per,
            ignore=self.ignore,
            leaves=self.leaves,
            parts=self.parts,
            trial=trial,
        )
