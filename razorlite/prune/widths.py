"""A width space of any model: one dimension for each of its channel groups."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, PositiveShare
from razorlite.core.registry import register
from razorlite.prune.allocation import ladder
from razorlite.prune.importance import L1Importance
from razorlite.prune.planning import ignored_groups, why_left
from razorlite.prune.sorting import sort_channels
from razorlite.space import Dimension, Placeholder, Preparer, Values
from razorlite.space.elastic import Elastic
from razorlite.space.elastic_layers import ELASTIC
from razorlite.space.mutable import mutables
from razorlite.space.mutator import put_in_place
from razorlite.space.sides import Kept, Side
from razorlite.space.stages import ElasticStage, depths_joined
from razorlite.trace import ChannelGraph, ChannelGroup, Member, channel_graph

_log = logging.getLogger("razorlite")
_SHARES = (0.25, 0.5, 0.75, 1.0)
_SIDES = {"out": "outputs", "in": "inputs"}


@register()
class ChannelWidths(Preparer):
    """Gives every channel group of a model a width of its own, so that any model can be searched.

    Channels that must stay equal (of layers that are added, of a norm and its convolution, ...)
    follow one dimension, `LAYER.width` after the first layer that makes them, whose values are how
    many of them run: the first ones. Where layers are concatenated and added to another, each
    part has a dimension. Set to the largest values, the model computes what it did.
    `sort_channels: true` lets a supernet that starts from a trained detector keep the channels of
    the largest weights, as pruning would.

    Universally slimmable networks, https://arxiv.org/abs/1903.05134, with widths per group.
    """

    def __init__(
        self,
        *,
        shares: Sequence[PositiveShare] = _SHARES,
        round_to: Count = 8,
        ignore: Sequence[str] = (),
        leaves: Sequence[str] = (),
        sort_channels: bool = False,
    ) -> None:
        """Keep the settings.

        Args:
            shares: of a group's channels that may run; all of them always may.
            round_to: a layer that shrinks keeps a multiple of this many channels, where it had a
                multiple before.
            ignore: patterns of module paths (`"neck.*"`) whose own channels all stay.
            leaves: patterns of module paths that are not looked into; what they read stays.
            sort_channels: before training, put the channels of the weights that it starts from
                in the order of their importance, the sum of the absolute weights that make them.
        """
        self.shares, self.round_to = tuple(shares), round_to
        self.ignore, self.leaves = tuple(ignore), tuple(leaves)
        self.sort_channels = sort_channels
        self._varied: list[ChannelGroup] = []  # of the model that was prepared last

    def put(self, model: nn.Module, shape: tuple[int, int] = (224, 224)) -> None:
        """Make the layers of all groups that can shrink elastic.

        Mutables of earlier preparers are not looked into: the channels that they read and make
        stay. Stages of elastic depth are: what may come out of one is equally wide.

        Raises:
            ConfigError: no group can shrink, a pattern matches no module, or there are still
                placeholders; the model is unchanged.
            ExportError: the model's forward cannot be followed.
        """
        if any(isinstance(module, Placeholder) for module in model.modules()):
            raise ConfigError(
                f"mutator: {type(model).__name__} has placeholders, which have no channels yet; "
                f"list {{type: Mutator, placeholder_mapping: ...}} in front of ChannelWidths"
            )
        closed = [p for p, m in mutables(model).items() if not isinstance(m, ElasticStage)]
        with torch.device("cpu"), depths_joined(model):  # it may be built without values
            graph = channel_graph(model, shape, leaves=[*self.leaves, *closed])
        groups = self._groups(model, graph)
        dimensions = {group.name: self._dimensions(group) for group in groups}
        sides = _sides([group for group in groups if dimensions[group.name]], dimensions)
        if not sides:
            reasons = [f"{name}: {why}" for name, why in why_left(graph).items()][:3]
            raise ConfigError(
                f"mutator: no channel group of {type(model).__name__} can shrink "
                f"({'; '.join(reasons) or 'all are too small for round_to'})"
            )
        every = {d.name: d for known in dimensions.values() for d, _ in known}
        built = {path: _elastic(path, model, own, every) for path, own in sides.items()}
        for path, layer in built.items():
            put_in_place(model, model.get_submodule(path), layer)
        self._varied = [group for group in groups if dimensions[group.name]]

    def loaded(self, model: nn.Module) -> None:
        """Sort the channels, where that is asked for; the model computes what it did."""
        if self.sort_channels:
            sort_channels(model, self._varied, L1Importance()(model, self._varied))

    def _groups(self, model: nn.Module, graph: ChannelGraph) -> list[ChannelGroup]:
        """Return the groups whose widths may vary; tell of those that could, but for a layer."""
        ignored = ignored_groups(model, graph, self.ignore)
        found = []
        for group in graph.prunable:
            odd = [
                m.module
                for m in group.members
                if type(model.get_submodule(m.module)) not in ELASTIC
            ]
            if odd and group.name not in ignored:
                kind = type(model.get_submodule(odd[0])).__name__
                _log.info("the width of %s stays: %s is a %s", group.name, odd[0], kind)
            elif group.name not in ignored:
                found.append(group)
        return found

    def _dimensions(self, group: ChannelGroup) -> list[tuple[Dimension, NDArray[np.int64]]]:
        """Return a group's dimensions, and for each the rank that its units have in it, or -1.

        Where a unit stands for several channels (a group of a norm, say), widths are in channels.
        """
        found = []
        for number, block in enumerate(group.blocks):
            size = len(block.units)
            sizes = ladder(
                group.name, block, start=0, scores=np.zeros(size), round_to=self.round_to, least=1
            )
            widths = {sizes.rungs[sizes.rung(share * size)] for share in self.shares} | {size}
            if len(widths) > 1:
                part = f".{number}" if len(group.blocks) > 1 else ""
                each = block.channels[0]
                values = tuple(each * width for width in sorted(widths))
                dimension = Dimension(f"{group.name}.width{part}", values)
                ranks = np.full(group.size, -1)
                ranks[list(block.units)] = each * np.arange(size)
                found.append((dimension, ranks))
        return found


class UnitSide(Side):
    """Channels that stay where a point's widths are above their ranks.

    Args:
        size: channels of the side.
        ranks: dimension to (size,) ranks; -1 where a channel does not follow it.
    """

    def __init__(self, size: int, ranks: Mapping[str, NDArray[np.int64]]) -> None:
        self.size, self.follows = size, tuple(ranks)
        self.ranks = dict(ranks)

    def kept(self, values: Values) -> Kept:
        """Return the numbers of the channels that stay; as a range where these are the first."""
        stays = np.ones(self.size, dtype=bool)
        for name, ranks in self.ranks.items():
            stays &= ranks < int(values[name])
        count = int(stays.sum())
        return range(count) if stays[:count].all() else tuple(np.flatnonzero(stays).tolist())


def _sides(
    groups: Sequence[ChannelGroup],
    dimensions: Mapping[str, Sequence[tuple[Dimension, NDArray[np.int64]]]],
) -> dict[str, dict[str, Side]]:
    """Return the sides of each layer that follow dimensions."""
    ranks: dict[tuple[str, str], dict[str, NDArray[np.int64]]] = {}
    for group in groups:
        for member in group.members:
            known = ranks.setdefault((member.module, _SIDES[member.side]), {})
            for dimension, units in dimensions[group.name]:
                known[dimension.name] = _of_channels(member, units)
    found: dict[str, dict[str, Side]] = {}
    for (path, side), own in ranks.items():
        found.setdefault(path, {})[side] = UnitSide(len(next(iter(own.values()))), own)
    return found


def _of_channels(member: Member, units: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each channel of a member the rank of its unit, -1 where it has none."""
    ranks: NDArray[np.int64] = np.append(units, -1)[np.asarray(member.index)]
    return ranks


def _elastic(
    path: str, model: nn.Module, sides: Mapping[str, Side], dimensions: Mapping[str, Dimension]
) -> Elastic:
    layer = model.get_submodule(path)
    try:
        return ELASTIC[type(layer)].of(layer, sides, dimensions)
    except ConfigError as error:
        raise ConfigError(f"mutator: {path}: {error}; name it in `ignore`") from error
