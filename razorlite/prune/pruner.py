"""From a model and a budget to a subnet."""

import logging
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
from torch import nn

from razorlite.core.errors import BudgetError, ConfigError
from razorlite.core.registry import suggestion
from razorlite.prune._surgery import Mask
from razorlite.prune.allocation import Ladder, Strategy, allocate, ladder
from razorlite.prune.budget import Budget, SlimCost
from razorlite.prune.culprits import changing_groups, unit_masks
from razorlite.prune.goal import Goal, floors
from razorlite.prune.importance import Importance, L1Importance
from razorlite.space.subnet import Subnet
from razorlite.trace import ChannelGraph, ChannelGroup, channel_graph

_log = logging.getLogger("razorlite")
_LITTLE = 0.3  # share of the parameters that pruning should reach
_ENDS = ("input of the model", "output of the model")


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
        ignore: Sequence[str] = (),
        leaves: Sequence[str] = (),
    ) -> None:
        """Keep the settings.

        Args:
            budget: what the slim model may cost.
            importance: which channels matter; L1 of the weights by default.
            round_to: a layer that shrinks keeps a multiple of this many channels, where it had
                a multiple before.
            min_keep: least share to keep of each group and of each layer in it, 0 to 1.
            allocation: "global" compares channels of all layers, "uniform" keeps the same share
                of each group.
            ignore: patterns of module paths (`"backbone.*"`); the channels these modules make
                all stay.
            leaves: patterns of module paths that are not looked into; what they read stays.

        Raises:
            ConfigError: a setting is out of range.
        """
        if round_to < 1 or not 0 <= min_keep <= 1:
            raise ConfigError(
                f"pruning needs round_to >= 1 and min_keep in 0 to 1, got {round_to} and {min_keep}"
            )
        if allocation not in ("global", "uniform"):
            raise ConfigError(f"allocation must be global or uniform, got {allocation!r}")
        self.budget, self.importance = budget, importance or L1Importance()
        self.round_to, self.min_keep, self.allocation = round_to, min_keep, allocation
        self.ignore, self.leaves = tuple(ignore), tuple(leaves)

    def goal(self, model: nn.Module, shape: tuple[int, int] = (224, 224)) -> Goal:
        """Return the budget and the least shares in numbers, for pruning a model in rounds.

        Percentages are of this model. Arguments, errors: as for `plan`.
        """
        graph = self._graph(model, shape)
        return self._goal(graph, SlimCost(model, graph, shape))

    def plan(
        self, model: nn.Module, shape: tuple[int, int] = (224, 224), goal: Goal | None = None
    ) -> Subnet:
        """Return the subnet to keep: the kept units of every group that may shrink.

        Args:
            model: takes (N, 3, H, W) images; not changed.
            shape: (height, width) in pixels that MACs are stated for.
            goal: of the model before it was pruned for the first time, where this is a later
                round; by default percentages and least shares are those of `model`.

        Raises:
            BudgetError: the budget cannot be met, or is above what the whole model costs; the
                message names the reachable range.
            ConfigError: an ignore pattern matches no module, or the budget cannot be read.
            ExportError: the model cannot be traced.
        """
        graph = self._graph(model, shape)
        cost = SlimCost(model, graph, shape)
        goal = goal or self._goal(graph, cost)
        kept = self._choose(model, graph, cost, goal, shape)
        return Subnet(
            channels=_by_group(graph, kept),
            cost=cost.figures(cost.counts(kept)),
            origin={"made_by": "prune", "groups": graph.fingerprint},
        )

    def _choose(
        self,
        model: nn.Module,
        graph: ChannelGraph,
        cost: SlimCost,
        goal: Goal,
        shape: tuple[int, int],
    ) -> Mask:
        """Return a mask of the units to keep, over all prunable groups.

        Groups that turn out to change what the model computes are left as they are.
        """
        staying = self._ignored(model, graph)
        while True:
            ladders = self._ladders(model, graph, goal, staying)
            counts = allocate(ladders, cost, goal.limits, self.allocation)
            kept = np.zeros(graph.size, dtype=bool)
            for x, number in zip(ladders, counts, strict=True):
                kept[x.units(0, number)] = True
            changing = changing_groups(model, graph, kept, shape)
            if not changing:
                return kept
            _warn_of_changing(changing)
            staying |= set(changing)

    def _graph(self, model: nn.Module, shape: tuple[int, int]) -> ChannelGraph:
        graph = channel_graph(model, shape, leaves=self.leaves)
        if not graph.prunable:
            reasons = [f"{name}: {why}" for name, why in _why_left(graph).items()][:3]
            raise BudgetError(
                f"nothing to prune: no channel group of the model can shrink ({'; '.join(reasons)})"
            )
        return graph

    def _goal(self, graph: ChannelGraph, cost: SlimCost) -> Goal:
        limits = tuple(self.budget.limits(cost.whole))
        _warn_of_unseen(graph)
        _tell_reach(graph, cost)
        return Goal(cost.whole, limits, floors(graph, self.min_keep))

    def _ladders(
        self, model: nn.Module, graph: ChannelGraph, goal: Goal, ignored: Collection[str]
    ) -> list[Ladder]:
        scores = self.importance(model, graph.prunable)
        ladders, start = [], 0
        for group in graph.prunable:
            blocks, values = group.blocks, scores[group.name]
            for block, floor in zip(blocks, goal.floors[group.name], strict=True):
                own = values[list(block.units)]
                made = ladder(
                    group.name,
                    block,
                    start=start,
                    scores=(self.importance.scaled(own) if len(blocks) > 1 else own).numpy(),
                    round_to=self.round_to,
                    least=len(block.units) if group.name in ignored else floor,
                )
                ladders.append(made)
            start += group.size
        return ladders

    def _ignored(self, model: nn.Module, graph: ChannelGraph) -> set[str]:
        """Return the names of the groups whose channels an ignored module makes."""
        names = [name for name, _ in model.named_modules()]
        for pattern in self.ignore:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError(
                    f"ignore: no module matches {pattern!r}{suggestion(pattern, names)}"
                )
        return {group.name for group in graph.groups if self._is_ignored(group)}

    def _is_ignored(self, group: ChannelGroup) -> bool:
        made_by = {member.module for member in group.members if member.side == "out"}
        return any(fnmatchcase(name, pattern) for name in made_by for pattern in self.ignore)


def _by_group(graph: ChannelGraph, kept: Mask) -> dict[str, tuple[int, ...]]:
    """Return the kept units of each prunable group, given a mask over all of them."""
    masks = unit_masks(graph, kept)
    return {g.name: tuple(np.flatnonzero(masks[g.name]).tolist()) for g in graph.prunable}


def _warn_of_changing(changing: Mapping[str, str]) -> None:
    for name, fault in changing.items():
        _log.warning("pruning leaves the channels of %s alone: with fewer of them, %s", name, fault)


def _tell_reach(graph: ChannelGraph, cost: SlimCost) -> None:
    """Say what pruning leaves alone and why; warn if that is most of the model."""
    least = cost.figures(cost.counts(np.zeros(graph.size, dtype=bool)))
    reach = 1 - least["params"] / max(cost.whole["params"], 1)
    left = [f"{name} ({why})" for name, why in _why_left(graph).items() if why not in _ENDS]
    shown = "; ".join(left[:3]) + (f"; {len(left) - 3} more" if len(left) > 3 else "")
    if reach < _LITTLE:
        _log.warning(
            "pruning reaches only %.0f %% of the parameters; channels stay as they are in %s",
            100 * reach,
            shown or "the model's outputs",
        )
    elif left:
        _log.info("pruning leaves the channels alone of %s", shown)


def _why_left(graph: ChannelGraph) -> dict[str, str]:
    """Return why channels stay, by the name of their layer or group."""
    altered = dict.fromkeys(graph.altered, "has hooks, parametrizations or a replaced forward")
    return {**altered, **{group.name: group.fixed for group in graph.groups if group.fixed}}


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
