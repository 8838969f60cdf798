"""Which groups cannot shrink although tracing found nothing against it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from razorlite.prune._surgery import Mask, sides_of
from razorlite.prune.equivalence import first_difference
from razorlite.trace import ChannelGraph


def unit_masks(graph: ChannelGraph, kept: Mask) -> dict[str, Mask]:
    """Return a (size,) mask for each group's name, given one over all prunable units."""
    free = [group for group in graph.groups if not group.fixed]
    parts = np.split(kept, np.cumsum([group.size for group in free])[:-1])
    masks = {group.name: np.ones(group.size, dtype=bool) for group in graph.groups}
    return masks | {group.name: part for group, part in zip(free, parts, strict=True)}


def changing_groups(
    model: nn.Module, graph: ChannelGraph, kept: Mask, example: Any
) -> dict[str, str]:
    """Return the groups whose slimming changes what the model computes, and where it does.

    All are slimmed at once; only if outputs change, they are searched by halves.

    Args:
        model: the whole model; not changed.
        graph: of the model.
        kept: (graph.size,) units that are to stay.
        example: what the model is called with, as for `Channels`.
    """
    masks = unit_masks(graph, kept)

    def search(names: Sequence[str]) -> dict[str, str]:
        only = {name: m if name in names else np.ones_like(m) for name, m in masks.items()}
        fault = first_difference(model, sides_of(graph, only), example)
        if not fault or len(names) == 1:
            return dict.fromkeys(names, fault) if fault else {}
        middle = len(names) // 2
        found = search(names[:middle]) | search(names[middle:])
        return found or dict.fromkeys(names, fault)

    smaller = [name for name, mask in masks.items() if not mask.all()]
    return search(smaller) if smaller else {}
