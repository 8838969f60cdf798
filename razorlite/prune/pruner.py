"""From a model and a budget to a subnet."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.cost import Limit
from razorlite.cost.model import Number
from razorlite.prune.allocation import STRATEGIES, Strategy
from razorlite.prune.budget import Budget
from razorlite.prune.channels import Channels
from razorlite.prune.goal import Goal, floors
from razorlite.prune.importance import Importance, L1Importance
from razorlite.prune.parts import KINDS, Kind
from razorlite.prune.per_cost import COST_KINDS, CostKind, per_cost
from razorlite.prune.planning import check_patterns, matching
from razorlite.prune.report import left_of
from razorlite.prune.rounding import Rounding, RoundTo
from razorlite.prune.stopwatch import Stopwatch
from razorlite.prune.structure import Structures
from razorlite.prune.trial import Trial
from razorlite.prune.within_latency import LatencyFit, without_layer_time
from razorlite.space.subnet import Subnet
from razorlite.trace import ChannelGraph, ChannelGroup

_log = logging.getLogger("razorlite")
_LITTLE = 0.3  # share of the parameters that pruning should reach


class Pruner:
    """Chooses which channels a model keeps so that it meets a budget."""

    def __init__(
        self,
        *,
        budget: Budget,
        importance: Importance | None = None,
        round_to: RoundTo = 8,
        min_keep: float = 0.1,
        allocation: Strategy = "global",
        per: CostKind = "none",
        ignore: Sequence[str] = (),
        leaves: Sequence[str] = (),
        stopwatch: Stopwatch | None = None,
        parts: Sequence[Kind] = ("channels",),
        trial: Trial | None = None,
    ) -> None:
        """Keep the settings.

        Args:
            budget: what the slim model may cost.
            importance: which channels matter; L1 of the weights by default.
            round_to: a layer that shrinks keeps a multiple of this many channels, where it had
                a multiple before; "auto" times the model's layers and takes what they compute well
                with.
            min_keep: least share to keep of each group and of each layer in it, 0 to 1.
            allocation: "global" compares channels of all layers, "local" keeps of each group the
                channels that hold the same share of its importance, "uniform" the same share of its
                channels.
            per: what scores are divided by: the macs, params, memory or latency that a channel
                costs.
            ignore: patterns of module paths (`"backbone.*"`); the channels these modules make
                all stay.
            leaves: patterns of module paths that are not looked into; what they read stays.
            stopwatch: times slim models; a budget of latency_ms, `round_to="auto"` and
                `per="latency"` need it.
            parts: what may go: channels, residual blocks, decoder layers, queries; see
                `razorlite.prune.Structures`.
            trial: losses of slim models, by which they are compared; parts other than channels
                need it.

        Raises:
            ConfigError: a setting is out of range, or there is no stopwatch for the budget.
        """
        if (round_to != "auto" and round_to < 1) or not 0 <= min_keep <= 1:
            raise ConfigError(
                f"pruning needs round_to >= 1 and min_keep in 0 to 1, got {round_to} and {min_keep}"
            )
        if not isinstance(budget, Budget) or not isinstance(importance, Importance | None):
            raise ConfigError(
                "pruning wants budget=Budget(macs='50%'), say, and an importance such as "
                f"L1Importance(), got {budget!r} and {importance!r}"
            )
        if allocation not in STRATEGIES:
            raise ConfigError(f"allocation must be global, local or uniform, got {allocation!r}")
        if per not in COST_KINDS:
            raise ConfigError(f"per must be one of {', '.join(COST_KINDS)}, got {per!r}")
        timed = {
            "a budget of latency_ms": budget.latency_ms is not None,
            "round_to auto": round_to == "auto",
            "per latency": per == "latency",
        }
        if any(timed.values()) and stopwatch is None:
            raise ConfigError(
                f"{next(name for name in timed if timed[name])} is met by measuring: give "
                "stopwatch=razorlite.prune.Stopwatch(model, razorlite.deploy.RuntimeTimer(shape))"
            )
        if not parts or set(parts) - set(KINDS):
            raise ConfigError(f"parts wants some of {', '.join(KINDS)}, got {list(parts)}")
        self.stopwatch, self.parts, self.trial = stopwatch, tuple(parts), trial
        self.budget, self.importance = budget, importance or L1Importance()
        self.round_to, self.min_keep, self.allocation = round_to, min_keep, allocation
        self.per: CostKind = per
        self.ignore, self.leaves = tuple(ignore), tuple(leaves)

    def goal(self, model: nn.Module | Channels, shape: Any = (224, 224)) -> Goal:
        """Return the budget and the least shares in numbers, for pruning a model in rounds.

        Percentages are of this model. Arguments, errors: as for `plan`.
        """
        channels = self._channels(model, shape)
        check_patterns(channels.model, "ignore", self.ignore)  # of all that is there
        self._check_prunable(channels)
        graph, cost = channels.graph, channels.cost
        whole: dict[str, Number] = dict(cost.whole_of(self.budget.names))
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
        """Return the subnet to keep: the kept units of every group that may shrink, and what goes.

        Args:
            model: takes (N, 3, H, W) images; not changed. Its channels where they are known.
            shape: (height, width) in pixels that MACs are stated for, or another example of what
                the model is called with; that of the channels counts where these are given.
            goal: of the model before it was pruned for the first time, where this is a later
                round; by default percentages and least shares are those of `model`.

        Raises:
            BudgetError: the budget cannot be met, or is above what the whole model costs; the
                message names the reachable range.
            ConfigError: an ignore pattern matches no module, the budget cannot be read, or parts go
                by what the model loses, and there is no trial.
            ExportError: the model cannot be traced.
        """
        if self.trial is None and set(self.parts) - {"channels"}:
            raise ConfigError(
                "parts other than channels go by what the model loses: give "
                "trial=razorlite.prune.Trial(batches)"
            )
        return self._plan(self._channels(model, shape), goal)

    def check(self, channels: Channels) -> None:
        """Refuse a budget that cannot be met, where losses are not known.

        Errors: as for `plan`.
        """
        self._plan(channels, None)

    def _plan(self, channels: Channels, goal: Goal | None) -> Subnet:
        goal = goal or self.goal(channels)
        self._check_prunable(channels)
        channels, rounding = self._timed(channels), self._rounding(channels)
        subnet = without_layer_time(self._fitted(channels, goal, rounding))
        if rounding is None:
            return subnet
        return subnet.with_results(origin={**subnet.origin, "round_to": rounding.to_dict()})

    def _fitted(self, channels: Channels, goal: Goal, rounding: Rounding | None) -> Subnet:
        """Return the subnet within the goal's limits."""
        plan = self._planned(channels, goal, rounding)
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
            whole=channels.cost.whole,
            stopwatch=self.stopwatch,
        ).run()

    def _timed(self, channels: Channels) -> Channels:
        """Return the channels, with what their layers take where that counts."""
        counts = self.budget.latency_ms is not None or self.per == "latency"
        if self.stopwatch is None or not counts:
            return channels
        return channels.timed(self.stopwatch.layers)

    def _rounding(self, channels: Channels) -> Rounding | None:
        """Return the measured multiples of channels, where they are to be measured."""
        if self.round_to != "auto":
            return None
        assert self.stopwatch is not None
        found = self.stopwatch.rounding(channels.example)
        _log.info("round_to: auto takes %s", found)
        return found

    @property
    def number(self) -> int:
        """The channels that a kept number is a multiple of, where that is given and not measured.

        Raises:
            ConfigError: it is to be measured.
        """
        if self.round_to == "auto":
            raise ConfigError("round_to: auto is measured as pruning plans; give a number here")
        return self.round_to

    def scores(
        self, channels: Channels, groups: Sequence[ChannelGroup] | None = None
    ) -> dict[str, Tensor]:
        """Return for each prunable group its (size,) scores, divided by what a unit costs.

        Args:
            channels: of the model.
            groups: the prunable groups, where others have been found to stay.
        """
        known = channels.graph.prunable if groups is None else groups
        scores = self.importance(channels.model, known)
        scores |= {g.name: torch.ones(g.size) for g in channels.graph.prunable if g not in known}
        return scores if self.per == "none" else per_cost(scores, channels, self.per)

    def _planned(
        self, channels: Channels, goal: Goal, rounding: Rounding | None
    ) -> Callable[[Sequence[Limit]], Subnet]:
        """Return what plans within limits on what can be counted."""
        names = {group.name for group in channels.graph.prunable}

        def within(left: Channels, limits: Sequence[Limit]) -> Subnet:
            groups = [group for group in left.graph.prunable if group.name in names]
            return left.plan(
                self.scores(left, groups),
                limits,
                least={**floors(left.graph, 1.0), **goal.floors},
                round_to=self.number if rounding is None else rounding.channels,
                allocation=self.allocation,
                ignore=matching(left.model, self.ignore),
            )

        if set(self.parts) == {"channels"}:
            return partial(within, channels)
        kinds, ignore, least = self.parts, self.ignore, self.min_keep
        forms = Structures(channels, kinds, self.trial, ignore=ignore, min_keep=least)
        return partial(forms.plan, within)

    def _check_prunable(self, channels: Channels) -> None:
        if "channels" in self.parts:
            channels.check_prunable()

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
