"""The channels of one model: found once, then planned, cut and masked."""

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from razorlite.core.errors import BudgetError, ConfigError, SubnetError
from razorlite.cost import Limit, count, peak_memory
from razorlite.prune._surgery import Sides, cut_layers, mask_layers, sides_of
from razorlite.prune.allocation import Strategy
from razorlite.prune.budget import LAYER_TIME, SlimCost
from razorlite.prune.equivalence import check_outputs, is_without_values
from razorlite.prune.goal import floors
from razorlite.prune.kept import compose, kept_units
from razorlite.prune.layer_times import Clock, time_of
from razorlite.prune.masks import Masks, without_masks
from razorlite.prune.parts import Dropped, counts_of, joined, without_parts
from razorlite.prune.planning import Planner, check_patterns, matching, why_left
from razorlite.prune.report import reach_of, report
from razorlite.prune.restricting import restricted
from razorlite.space.mutable import mutables
from razorlite.space.subnet import Subnet
from razorlite.trace import ChannelGraph, Side, channel_graph, check_channels, unit_numbers


class Channels:
    """Which channels of a model live and die together, and what can be done with that.

    The model is read when its groups are first asked for, and never again.

    Args:
        model: what to read; not changed but by `masks`.
        example: what it is called with, which MACs are stated for: (height, width) in pixels of
            (N, 3, H, W) images or of the model's own example, a tuple of positional arguments, or
            the only argument, such as a list of images.
        leaves: patterns of module paths that are not looked into; what they read stays.
        graph: the groups, where they are known of a model that was built the same way.

    Attributes:
        model: as given.
        example: as given.
        leaves: as given.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Any = (224, 224),
        *,
        leaves: Sequence[str] = (),
        graph: ChannelGraph | None = None,
    ) -> None:
        self.model, self.example, self.leaves = model, example, tuple(leaves)
        self._graph = graph
        self._without: dict[str, ChannelGraph] = {}
        self._clock: Clock | None = None

    @cached_property
    def graph(self) -> ChannelGraph:
        """The channel groups and what the layers cost, as plain data.

        Raises:
            ConfigError: the model is a supernet, or a pattern of `leaves` matches no module.
            ExportError: the model cannot be traced.
        """
        if self._graph is not None:
            return self._graph
        check_patterns(self.model, "leaves", self.leaves)
        _check_plain(self.model, self.leaves)
        return channel_graph(self.model, self.example, leaves=self.leaves)

    @cached_property
    def cost(self) -> SlimCost:
        """MACs and parameters of every slim form of the model, and what `timed` adds."""
        times = None if self._clock is None else self._clock(self.model, self.example)
        return SlimCost(self.model, self.graph, self.example, times)

    def without(self, dropped: Dropped) -> "Channels":
        """Return the channels of a copy of the model without some of its parts.

        Args:
            dropped: as `Subnet.dropped`; nothing gives this object itself.

        Raises:
            SubnetError: the model has no such part.
        """
        if not any(dropped.values()):
            return self
        key, model = repr(sorted(dropped.items())), without_parts(self.model, dropped)
        known = self._without.get(key)
        found = Channels(model, self.example, leaves=matching(model, self.leaves), graph=known)
        found._clock = self._clock
        self._without[key] = found.graph
        return found

    def cost_of(self, model: nn.Module, names: Collection[str] = ()) -> dict[str, int]:
        """Return macs and params of a model that takes what this one takes, counted.

        Memory is there, too, if it is among names, and what layers take if they are `timed`.
        """
        counted = count(model, self.example)
        costs = {"macs": counted.macs, "params": counted.params}
        if "memory" in names:
            costs["memory"] = peak_memory(model, self.example)
        if self._clock is not None:
            costs[LAYER_TIME] = time_of(model, self._clock(model, self.example), counted)
        return costs

    def timed(self, clock: Clock) -> "Channels":
        """Return the same channels, whose costs have a further kind: what their layers take.

        Args:
            clock: returns that of a model and its example, as `Stopwatch.layers` does.
        """
        copied = copy.copy(self)
        copied.__dict__.pop("cost", None)
        copied._clock = clock
        return copied

    def plan(
        self,
        scores: Mapping[str, Tensor],
        limits: Sequence[Limit],
        *,
        least: Mapping[str, Sequence[int]] | None = None,
        round_to: int = 1,
        allocation: Strategy = "global",
        ignore: Sequence[str] = (),
    ) -> Subnet:
        """Return the subnet to keep: the kept units of every group that may shrink.

        Groups that turn out to change what the model computes are left as they are.

        Args:
            scores: for each prunable group its (size,) scores; higher matters more.
            limits: on macs and params of the slim model, and on what `timed` adds.
            least: for each prunable group the least units to keep of each of its blocks; one of
                each by default.
            round_to: channels that a kept number is a multiple of, where it was one before.
            allocation: "global" compares units of all groups, "local" keeps of each group the units
                that hold the same share of its scores, "uniform" the same share of its units.
            ignore: patterns of module paths; the channels that these modules make all stay.

        Raises:
            BudgetError: no group can shrink, or the limits cannot be met; the message names the
                reachable range.
            ConfigError: an ignore pattern matches no module.
            ExportError: the model cannot be traced.
        """
        self.check_prunable()
        planner = Planner(
            scores=scores,
            limits=limits,
            least=least or floors(self.graph, 0.0),
            round_to=round_to,
            allocation=allocation,
            ignore=ignore,
        )
        return planner.plan(self.model, self.graph, self.cost, self.example)

    @cached_property
    def reach(self) -> dict[str, float]:
        """Shares of params and macs, 0 to 1, that go with the channels that can go."""
        return reach_of(self.graph, self.cost)

    def report(self) -> dict[str, Any]:
        """Return groups, members, reach, and what stays and why, as plain values.

        Raises:
            ExportError: the model cannot be traced.
        """
        return report(self.graph, self.cost)

    def check_prunable(self) -> None:
        """Raise `BudgetError` if no group can shrink, with the reasons."""
        if not self.graph.prunable:
            reasons = [f"{name}: {why}" for name, why in why_left(self.graph).items()][:3]
            raise BudgetError(
                f"nothing to prune: no channel group of the model can shrink ({'; '.join(reasons)})"
            )

    def slim(self, subnet: Subnet) -> nn.Module:
        """Return a smaller plain copy of the model, compared with the masked one on noise.

        Errors: as for `razorlite.prune.apply`.
        """
        left, subnet = self._left(subnet)
        sides = left._sides(subnet)
        slim = left._cut(sides)
        if is_without_values(left.model):
            numbers = _kept_numbers(left.graph, sides)
            check_channels(slim, numbers, left.graph.size, left.example, left.leaves)
        else:
            check_outputs(left.model, sides, left.example)
        return slim

    def cut(self, subnet: Subnet) -> nn.Module:
        """Return the same as `slim`; nothing is run or compared."""
        left, subnet = self._left(subnet)
        return left._cut(left._sides(subnet))

    def slim_weights(self, subnet: Subnet) -> dict[str, Tensor]:
        """Return the weights of the slim model by name; nothing is run or compared."""
        return self.cut(subnet).state_dict()

    def slim_channels(self, model: nn.Module, subnet: Subnet) -> "Channels":
        """Return the channels of a slim model without reading it.

        Args:
            model: what `slim(subnet)` gives, or one that is built the same way.
            subnet: what it keeps of this one.
        """
        left, subnet = self._left(subnet)
        graph = restricted(left.graph, kept_units(left.graph, subnet))
        return Channels(model, self.example, leaves=self.leaves, graph=graph)

    def masked(self, subnet: Subnet) -> nn.Module:
        """Return a copy without dropped parts, weights that touch dropped channels set to zero."""
        left, subnet = self._left(subnet)
        copied = without_masks(copy.deepcopy(left.model))
        mask_layers(copied, left._sides(subnet))
        return copied

    def masks(self, subnet: Subnet | None = None) -> Masks:
        """Make the model itself compute what a slim one does, until the masks are removed.

        Args:
            subnet: what is kept; everything by default.

        Returns:
            The masks, which can be changed at any time; as a context manager they remove
            themselves at the end of the block.

        Raises:
            SubnetError: the subnet does not fit the model, or drops more than channels.
        """
        chosen = Subnet() if subnet is None else subnet
        if chosen.dropped:
            raise SubnetError(
                f"masks hide channels; the subnet drops {' and '.join(chosen.dropped)}, too: mask "
                "the channels of `without(subnet.dropped)`"
            )
        kept_units(self.graph, chosen)  # before any hook hangs on the model
        return Masks(self.model, self.graph).keep(chosen)

    def composed(self, first: Subnet, second: Subnet) -> Subnet:
        """Return the subnet of this model that two prunings come to.

        Args:
            first: of this model.
            second: of the model that `slim(first)` gives.

        Raises:
            SubnetError: the second does not fit what the first keeps.
        """
        both = compose(first, second)
        dropped = joined(first.dropped, second.dropped, counts_of(self.model))
        if not second.dropped:
            return replace(both, dropped=dropped)
        left, both = self._left(replace(both, dropped=dropped, origin={}))
        groups = left.graph.fingerprint_of(both.channels)
        origin = {**second.origin, **first.origin, "groups": groups}
        return replace(both, dropped=dropped, origin=origin)

    def _left(self, subnet: Subnet) -> tuple["Channels", Subnet]:
        """Return what is left without the dropped parts, and which of its channels are kept."""
        left = self.without(subnet.dropped)
        if left is self:
            return self, subnet
        there, gone = dict(left.model.named_modules()), dict(self.model.named_modules())
        kept = {n: k for n, k in subnet.channels.items() if n in there or n not in gone}
        return left, replace(subnet, dropped={}, channels=kept)

    def _sides(self, subnet: Subnet) -> dict[str, Sides]:
        return sides_of(self.graph, kept_units(self.graph, subnet))

    def _cut(self, sides: Mapping[str, Sides]) -> nn.Module:
        slim = without_masks(copy.deepcopy(self.model))
        cut_layers(slim, sides)
        return slim


def _check_plain(model: nn.Module, leaves: Sequence[str]) -> None:
    """Refuse a model whose modules have several forms, which are not one number of channels.

    Raises:
        ConfigError: as described.
    """
    found = [name for name in mutables(model) if not any(fnmatchcase(name, x) for x in leaves)]
    if found:
        raise ConfigError(
            f"{type(model).__name__} is a supernet, of which {found[0] or 'the whole'} may vary; "
            "channels are found of a plain model: give space.export(subnet)"
        )


def _kept_numbers(
    graph: ChannelGraph, sides: Mapping[str, Sides]
) -> dict[str, dict[Side, NDArray[np.int64]]]:
    """Return the unit numbers of the channels that each side of each layer keeps."""
    kept: dict[str, dict[Side, NDArray[np.int64]]] = {}
    for path, numbers in unit_numbers(graph).items():
        kept[path] = {"out": numbers["out"][sides[path].outputs]}
        if "in" in numbers and sides[path].inputs is not None:
            kept[path]["in"] = numbers["in"][sides[path].inputs]
    return kept
