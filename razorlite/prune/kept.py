"""What a subnet keeps of a model's channel groups."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from razorlite.core.errors import SubnetError
from razorlite.prune._group_names import GroupNames
from razorlite.prune._surgery import Mask
from razorlite.space.subnet import Subnet
from razorlite.trace import ChannelGraph, ChannelGroup


def compose(first: Subnet, second: Subnet) -> Subnet:
    """Return the subnet of the original model that pruning twice comes to.

    Args:
        first: of the original model.
        second: of the model that `apply(model, first)` gives.

    Raises:
        SubnetError: the second does not fit what the first keeps.
    """
    channels = dict(first.channels)
    for name, kept in second.channels.items():
        before = channels.get(name)
        if before is not None and kept and max(kept) >= len(before):
            raise SubnetError(
                f"group {name!r} keeps {len(before)} units at first; "
                f"cannot keep index {max(kept)} of them"
            )
        channels[name] = kept if before is None else tuple(before[i] for i in kept)
    return replace(second, channels=channels, origin={**second.origin, **first.origin})


def kept_units(graph: ChannelGraph, subnet: Subnet) -> dict[str, Mask]:
    """Return for each group's name a (size,) mask of the units that the subnet keeps.

    The subnet may name a group by any layer that makes all of its channels.

    Raises:
        SubnetError: the subnet does not fit; one line names the group.
    """
    kept = {group.name: np.ones(group.size, dtype=bool) for group in graph.groups}
    for name, indices in _by_group(graph, subnet).items():
        kept[name][:] = False
        kept[name][list(indices)] = True
    made_for = subnet.origin.get("groups", graph.fingerprint)
    # other groups may have been found to shrink, too, since the subnet was made
    if made_for not in (graph.fingerprint, graph.fingerprint_of(subnet.channels)):
        raise SubnetError(
            f"the subnet was made for other channel groups ({made_for}) than this model has "
            f"({graph.fingerprint}); use the model configuration that it was planned with"
        )
    return kept


def _by_group(graph: ChannelGraph, subnet: Subnet) -> dict[str, tuple[int, ...]]:
    """Return the units that a subnet keeps, checked, by the names of the groups."""
    groups, whole = GroupNames(graph, subnet.channels), subnet.origin.get("whole")
    whole = whole if isinstance(whole, Mapping) else {}
    found: dict[str, tuple[int, ...]] = {}
    for name, indices in subnet.channels.items():
        group = groups[name]
        if whole.get(name, group.size) != group.size:
            raise SubnetError(
                f"{name} is made for {whole[name]} channels, and group {group.name!r} has "
                f"{group.size}; use the model that the file belongs to"
            )
        kept = tuple(_checked(group, indices))
        if found.setdefault(group.name, kept) != kept:
            raise SubnetError(
                f"{name} keeps {len(kept)} channels of group {group.name!r}, of which another "
                f"layer keeps {len(found[group.name])} (or others); layers of a group keep the same"
            )
    return found


def _checked(group: ChannelGroup, indices: Sequence[int]) -> list[int]:
    what = "channels" if set(group.channels) == {1} else "units"
    size = f"group {group.name!r} has {group.size} {what}"
    kept = list(indices)
    for i in kept:
        if not isinstance(i, int) or isinstance(i, bool) or not 0 <= i < group.size:
            raise SubnetError(f"{size}; cannot keep index {i}")
    if kept != sorted(set(kept)):
        raise SubnetError(f"{size}; the kept indices must rise, each once")
    if not kept:
        raise SubnetError(f"{size}; the subnet keeps none of them, keep at least one")
    if group.fixed and len(kept) < group.size:
        raise SubnetError(f"{size} and cannot shrink ({group.fixed}); keep all of it")
    return kept
