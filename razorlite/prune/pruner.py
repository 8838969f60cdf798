"""From a model and a budget to a subnet."""

import warnings
from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
from torch import nn

from razorlite.core.errors import BudgetError, ConfigError
from razorlite.core.registry import suggestion
from razorlite.prune.allocation import Ladder, Strategy, allocate, ladder
from razorlite.prune.budget import Budget, SlimCost
from razorlite.prune.importance import Importance, L1Importance
from razorlite.space.subnet import Subnet
from razorlite.trace import ChannelGraph, ChannelGroup, channel_graph


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
            round_to: every layer keeps a multiple of this many channels, or all.
            min_keep: least share of each group to keep, 0 to 1.
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

    def plan(self, model: nn.Module, shape: tuple[int, int] = (224, 224)) -> Subnet:
        """Return the subnet to keep: the kept units of every group that may shrink.

        Args:
            model: takes (N, 3, H, W) images; not changed.
            shape: (height, width) in pixels that MACs are stated for.

        Raises:
            BudgetError: the budget cannot be met; the message names the reachable range.
            ConfigError: an ignore pattern matches no module, or the budget cannot be read.
            ExportError: the model cannot be traced.
        """
        graph = channel_graph(model, shape, leaves=self.leaves)
        _warn_of_unseen(graph)
        if not graph.prunable:
            raise BudgetError("nothing to prune: no channel group of the model can shrink")
        ladders, cost = self._ladders(model, graph), SlimCost(model, graph, shape)
        counts = allocate(ladders, cost, self.budget.limits(cost.whole), self.allocation)
        chosen = [x.order[:n] for x, n in zip(ladders, counts, strict=True)]
        kept = np.zeros(graph.size, dtype=bool)
        kept[
            np.concatenate([x.start + units for x, units in zip(ladders, chosen, strict=True)])
        ] = 1
        return Subnet(
            channels={
                x.group.name: tuple(sorted(units.tolist()))
                for x, units in zip(ladders, chosen, strict=True)
            },
            cost=cost.figures(cost.counts(kept)),
            origin={"made_by": "prune", "groups": graph.fingerprint},
        )

    def _ladders(self, model: nn.Module, graph: ChannelGraph) -> list[Ladder]:
        ignored = self._ignored(model, graph)
        scores = self.importance(model, graph.prunable)
        ladders, start = [], 0
        for group in graph.prunable:
            least = 1.0 if group.name in ignored else self.min_keep
            values = scores[group.name].numpy()
            ladders.append(ladder(group, start, values, self.round_to, least))
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


def _warn_of_unseen(graph: ChannelGraph) -> None:
    if graph.unseen:
        shown = ", ".join(graph.unseen[:3]) + (", …" if len(graph.unseen) > 3 else "")
        warnings.warn(
            f"{len(graph.unseen)} modules are not used by forward ({shown}); if they read channels "
            "that forward makes, name the modules that make them in `ignore`",
            stacklevel=3,
        )
