"""What a subnet keeps of a model's channel groups."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from razorlite.core.errors import SubnetError
from razorlite.core.registry import suggestion
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

    Raises:
        SubnetError: the subnet does not fit; one line names the group.
    """
    groups = {group.name: group for group in graph.groups}
    kept = {name: np.ones(group.size, dtype=bool) for name, group in groups.items()}
    for name, indices in subnet.channels.items():
        if name not in groups:
            raise SubnetError(
                f"the model has no channel group {name!r}{suggestion(name, groups)}; "
                "the subnet belongs to another model"
            )
        kept[name][:] = False
        kept[name][_checked(groups[name], indices)] = True
    made_for = subnet.origin.get("groups", graph.fingerprint)
    # other groups may have been found to shrink, too, since the subnet was made
    if made_for not in (graph.fingerprint, graph.fingerprint_of(subnet.channels)):
        raise SubnetError(
            f"the subnet was made for other channel groups ({made_for}) than this model has "
            f"({graph.fingerprint}); use the model configuration that it was planned with"
        )
    return kept


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
