"""The channel groups of a slim model, from those of the whole one."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from razorlite.prune._surgery import Mask, Sides, sides_of
from razorlite.trace import ChannelGraph, ChannelGroup, Layer, Member


def restricted(graph: ChannelGraph, kept: Mapping[str, Mask]) -> ChannelGraph:
    """Return the graph of the model that keeps some units of each group.

    A group of which one unit is left cannot shrink, as in the graph that reading that model gives.

    Args:
        graph: of the whole model.
        kept: for each group's name a (size,) mask of its units.
    """
    sides = sides_of(graph, kept)
    none = [np.empty(0, bool)]
    units = np.concatenate([kept[group.name] for group in graph.prunable] or none)
    free = [kept[group.name] & (kept[group.name].sum() > 1) for group in graph.prunable]
    numbers = _renumbered(np.concatenate(free or none))
    numbers[:-1][units & (numbers[:-1] < 0)] = numbers[-1]
    return replace(
        graph,
        groups=tuple(_group(group, kept[group.name], sides) for group in graph.groups),
        layers=tuple(_layer(layer, numbers) for layer in graph.layers),
    )


def _renumbered(kept: Mask) -> np.ndarray:
    """Return the new number of each unit, -1 of those that go; the last one stands for the rest."""
    always = np.append(kept, True)
    return np.where(always, np.cumsum(always) - 1, -1)


def _group(group: ChannelGroup, kept: Mask, sides: Mapping[str, Sides]) -> ChannelGroup:
    numbers = np.append(_renumbered(kept)[:-1], -1)
    members = tuple(_member(member, numbers, sides[member.key]) for member in group.members)
    fixed = group.fixed or ("one unit is left" if kept.sum() == 1 else "")
    return replace(group, size=int(kept.sum()), members=members, fixed=fixed)


def _member(member: Member, numbers: np.ndarray, side: Sides) -> Member:
    stays = side.outputs if member.side == "out" else side.inputs
    index = numbers[np.asarray(member.index)][stays]
    return replace(member, index=tuple(index.tolist()))


def _layer(layer: Layer, numbers: np.ndarray) -> Layer:
    def rest(units: tuple[int, ...]) -> tuple[int, ...]:
        new = numbers[np.asarray(units, dtype=np.int64)]
        return tuple(new[new >= 0].tolist())

    return replace(layer, inputs=rest(layer.inputs), outputs=rest(layer.outputs))
