"""From a model and a budget to a subnet."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.cost.model import Number
from razorlite.prune.allocation import STRATEGIES, Strategy
from razorlite.prune.budget import Budget
from razorlite.prune.channels import Channels
from razorlite.prune.goal import Goal, floors
from razorlite.prune.importance import Importance, L1Importance
from razorlite.prune.per_cost import COST_KINDS, CostKind, per_cost
from razorlite.prune.report import left_of
from razorlite.prune.stopwatch import Stopwatch
from razorlite.prune.within_latency import LatencyFit
from razorlite.space.subnet import Subnet
from razorlite.trace import ChannelGraph

_log = logging.getLogger("razorlite")
_LITTLE = 0.3  # share of the parameters that pruning should reach


class Pruner:
    """Chooses which channels a model keeps so that it meets a budget."""

    def __init__(
        self,
        *,
        budget: Budget,
        importance: Importance | None = None,
        round_to: int = 8,
        min_keep: float = 0.1,
        allocation: Strategy = "global",
        per: CostKind = "none",
        ignore: Sequence[str] = (),
        leaves: Sequence[str] = (),
        stopwatch: Stopwatch | None = None,
    ) -> None:
        """Keep the settings.

        Args:
            budget: what the slim model may cost.
            importance: which channels matter; L1 of the weights by default.
            round_to: a layer that shrinks keeps a multiple of this many channels, where it had
                a multiple before.
            min_keep: least share to keep of each group and of each layer in it, 0 to 1.
            allocation: "global" compares channels of all layers, "local" keeps of each group the
                channels that hold the same share of its importance, "uniform" the same share of its
                channels.
            per: what scores are divided by: the macs, params or memory that a channel costs.
            ignore: patterns of module paths (`"backbone.*"`); the channels these modules make
                all stay.
            leaves: patterns of module paths that are not looked into; what they read stays.
            stopwatch: times slim models; a budget of latency_ms needs it.

        Raises:
            ConfigError: a setting is out of range, or there is no stopwatch for the budget.
        """
        if round_to < 1 or not 0 <= min_keep <= 1:
            raise ConfigError(
                f"pruning needs round_to >= 1 and min_keep in 0 to 1, got {round_to} and {min_keep}"
            )
        if allocation not in STRATEGIES:
            raise ConfigError(f"allocation must be global, local or uniform, got {allocation!r}")
        if per not in COST_KINDS:
            raise ConfigError(f"per must be one of {', '.join(COST_KINDS)}, got {per!r}")
        if budget.latency_ms is not None and stopwatch is None:
            raise ConfigError(
                "a budget of latency_ms is met by measuring: give "
                "stopwatch=razorlite.prune.Stopwatch(model, razorlite.deploy.RuntimeTimer(shape))"
            )
        self.stopwatch = stopwatch
        self.budget, self.importance = budget, importance or L1Importance()
        self.round_to, self.min_keep, self.allocation = round_to, min_keep, allocation
        self.per: CostKind = per
        self.ignore, self.leaves = tuple(ignore), tuple(leaves)

    def goal(self, model: nn.Module | Channels, shape: Any = (224, 224)) -> Goal:
        """Return the budget and the least shares in numbers, for pruning a model in rounds.

        Percentages are of this model. Arguments, errors: as for `plan`.
        """
        channels = self._channels(model, shape)
        channels.check_prunable()
        graph, cost = channels.graph, channels.cost
        whole: dict[str, Number] = dict(cost.whole)
        if self.stopwatch is not None and self.budget.latency_ms is not None:
            whole["latency_ms"] = self.stopwatch.whole_ms
        limits = tuple(self.budget.limits(whole))
        _warn_of_unseen(graph)
        _tell_reach(channels)
        return Goal(whole, limits, floors(graph, self.min_keep))

    def plan(
        self,
        model: nn.Module | Channels,
        shape: Any = (224, 224),
        goal: Goal | None = None,
    ) -> Subnet:
        """Return the subnet to keep: the kept units of every group that may shrink.

        Args:
            model: takes (N, 3, H, W) images; not changed. Its channels where they are known.
            shape: (height, width) in pixels that MACs are stated for, or another example of what
                the model is called with; that of the channels counts where these are given.
            goal: of the model before it was pruned for the first time, where this is a later
                round; by default percentages and least shares are those of `model`.

        Raises:
            BudgetError: the budget cannot be met, or is above what the whole model costs; the
                message names the reachable range.
            ConfigError: an ignore pattern matches no module, or the budget cannot be read.
            ExportError: the model cannot be traced.
        """
        channels = self._channels(model, shape)
        goal = goal or self.goal(channels)
        channels.check_prunable()
        plan = partial(
            channels.plan,
            self.scores(channels),
            least=goal.floors,
            round_to=self.round_to,
            allocation=self.allocation,
            ignore=self.ignore,
        )
        counted = [limit for limit in goal.limits if limit.name != "latency_ms"]
        latency = [limit for limit in goal.limits if limit.name == "latency_ms"]
        if not latency:
            return plan(counted)
        assert self.stopwatch is not None
        return LatencyFit(
            plan,
            channels.cut,
            limits=counted,
            latency=latency[0],
            macs=channels.cost.whole["macs"],
            stopwatch=self.stopwatch,
        ).run()

    def scores(self, channels: Channels) -> dict[str, Tensor]:
        """Return for each prunable group its (size,) scores, divided by what a unit costs."""
        scores = self.importance(channels.model, channels.graph.prunable)
        return scores if self.per == "none" else per_cost(scores, channels, self.per)

    def _channels(self, model: nn.Module | Channels, shape: Any) -> Channels:
        if isinstance(model, Channels):
            return model
        return Channels(model, shape, leaves=self.leaves)


def _tell_reach(channels: Channels) -> None:
    """Say how much pruning reaches, what it leaves alone and why; warn if that is most of it."""
    left = [f"{name} ({why})" for name, why in left_of(channels.graph).items()]
    shown = "; ".join(left[:3]) + (f"; {len(left) - 3} more" if len(left) > 3 else "")
    reach = channels.reach
    if reach["params"] < _LITTLE:
        _log.warning(
            "pruning reaches only %.0f %% of the parameters; channels stay as they are in %s",
            100 * reach["params"],
            shown or "the model's outputs",
        )
    elif left:
        _log.info(
            "pruning reaches %.1f %% of the parameters and %.1f %% of the MACs; left alone: %s",
            100 * reach["params"],
            100 * reach["macs"],
            shown,
        )


def _warn_of_unseen(graph: ChannelGraph) -> None:
    if graph.unseen:
        names = [name or "the model itself" for name in graph.unseen[:3]]
        shown = ", ".join(names) + (", …" if len(graph.unseen) > 3 else "")
        _log.warning(
            "modules not used by forward: %d (%s); if they read channels that forward makes, name "
            "the modules that make them in `ignore`",
            len(graph.unseen),
            shown,
        )
