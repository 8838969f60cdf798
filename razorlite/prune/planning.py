"""From scores and limits to the units that are kept."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.registry import suggestion
from razorlite.cost import Limit
from razorlite.prune._surgery import Mask
from razorlite.prune.allocation import Ladder, Strategy, allocate, ladder
from razorlite.prune.budget import SlimCost
from razorlite.prune.culprits import changing_groups, unit_masks
from razorlite.space.subnet import Subnet
from razorlite.trace import ChannelGraph, ChannelGroup

_log = logging.getLogger("razorlite")


@dataclass(frozen=True, kw_only=True)
class Planner:
    """What decides which units stay; see `Channels.plan`.

    Attributes:
        scores: for each prunable group its (size,) scores; higher matters more.
        limits: on the slim model.
        least: for each prunable group the least units to keep of each of its blocks.
        round_to: channels that a kept number is a multiple of.
        allocation: how groups share the budget.
        ignore: patterns of modules whose own channels all stay.
    """

    scores: Mapping[str, Tensor]
    limits: Sequence[Limit]
    least: Mapping[str, Sequence[int]]
    round_to: int
    allocation: Strategy
    ignore: Sequence[str]

    def plan(self, model: nn.Module, graph: ChannelGraph, cost: SlimCost, example: Any) -> Subnet:
        """Return what is kept of each prunable group, with its cost."""
        kept = self._choose(model, graph, cost, example)
        return Subnet(
            channels=by_group(graph, kept),
            cost=cost.of(kept, [limit.name for limit in self.limits]),
            origin={"made_by": "prune", "groups": graph.fingerprint},
        )

    def _choose(self, model: nn.Module, graph: ChannelGraph, cost: SlimCost, example: Any) -> Mask:
        """Return a mask of the units to keep, over all prunable groups.

        Groups that turn out to change what the model computes are left as they are.
        """
        staying = ignored_groups(model, graph, self.ignore)
        while True:
            ladders = self.ladders(graph, staying)
            counts = allocate(ladders, cost, self.limits, self.allocation)
            kept = _first_units(graph, ladders, counts)
            changing = _changing(model, graph, kept, example)
            if not changing:
                return kept
            staying |= changing

    def staying(self, model: nn.Module, graph: ChannelGraph, example: Any) -> set[str]:
        """Return the groups that are ignored, or change what the model computes at their least."""
        staying = ignored_groups(model, graph, self.ignore)
        ladders = self.ladders(graph, staying)
        kept = _first_units(graph, ladders, [x.rungs[0] for x in ladders])
        return staying | _changing(model, graph, kept, example)

    def ladders(self, graph: ChannelGraph, staying: Collection[str]) -> list[Ladder]:
        """Return the sizes that each block of each group can take; `staying` groups have one."""
        ladders, start = [], 0
        for group in graph.prunable:
            for block, floor in zip(group.blocks, self.least[group.name], strict=True):
                made = ladder(
                    group.name,
                    block,
                    start=start,
                    scores=self.scores[group.name][list(block.units)].double().cpu().numpy(),
                    round_to=self.round_to,
                    least=len(block.units) if group.name in staying else floor,
                )
                ladders.append(made)
            start += group.size
        return ladders


def ignored_groups(model: nn.Module, graph: ChannelGraph, patterns: Sequence[str]) -> set[str]:
    """Return the names of the groups whose channels an ignored module makes.

    Raises:
        ConfigError: a pattern matches no module.
    """
    check_patterns(model, "ignore", patterns)
    return {group.name for group in graph.groups if _is_ignored(group, patterns)}


def check_patterns(model: nn.Module, key: str, patterns: Sequence[str]) -> None:
    """Refuse patterns of module paths that match nothing.

    Args:
        model: has the modules.
        key: what the patterns are an argument of.
        patterns: as of `fnmatch`.

    Raises:
        ConfigError: a pattern matches no module; names the nearest.
    """
    known = matching(model, patterns)
    for pattern in patterns:
        if pattern not in known:
            names = [name for name, _ in model.named_modules()]
            raise ConfigError(f"{key}: no module matches {pattern!r}{suggestion(pattern, names)}")


def matching(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Return those patterns of module paths that match something: parts of a model may be gone."""
    names = [name for name, _ in model.named_modules()]
    return [x for x in patterns if any(fnmatchcase(name, x) for name in names)]


def _is_ignored(group: ChannelGroup, patterns: Sequence[str]) -> bool:
    made_by = {m.module for m in group.members if m.side == "out" and not m.bare}
    return any(fnmatchcase(name, pattern) for name in made_by for pattern in patterns)


def why_left(graph: ChannelGraph) -> dict[str, str]:
    """Return why channels stay, by the name of their layer or group."""
    altered = dict.fromkeys(graph.altered, "has hooks, parametrizations or a replaced forward")
    return {**altered, **{group.name: group.fixed for group in graph.groups if group.fixed}}


def by_group(graph: ChannelGraph, kept: Mask) -> dict[str, tuple[int, ...]]:
    """Return the kept units of each prunable group, given a mask over all of them."""
    masks = unit_masks(graph, kept)
    return {g.name: tuple(np.flatnonzero(masks[g.name]).tolist()) for g in graph.prunable}


def _first_units(graph: ChannelGraph, ladders: Sequence[Ladder], counts: Sequence[int]) -> Mask:
    """Return a mask of so many units of each block, those with the highest scores."""
    kept = np.zeros(graph.size, dtype=bool)
    for x, number in zip(ladders, counts, strict=True):
        kept[x.units(0, number)] = True
    return kept


def _changing(model: nn.Module, graph: ChannelGraph, kept: Mask, example: Any) -> set[str]:
    """Return the groups whose slimming changes what the model computes, and warn of them."""
    changing = changing_groups(model, graph, kept, example)
    for name, fault in changing.items():
        _log.warning("pruning leaves the channels of %s alone: with fewer of them, %s", name, fault)
    return set(changing)
