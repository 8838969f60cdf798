"""What pruning can reach of a model, as plain data and as text."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from razorlite.prune.budget import SlimCost
from razorlite.prune.planning import why_left
from razorlite.trace import ChannelGraph, ChannelGroup

_ENDS = ("input of the model", "output of the model")


def reach_of(graph: ChannelGraph, cost: SlimCost) -> dict[str, float]:
    """Return which share of params and macs goes with the channels that can go, 0 to 1."""
    least = cost.of(np.zeros(graph.size, dtype=bool))
    return {n: 1 - least[n] / max(cost.whole[n], 1) for n in ("params", "macs")}


def left_of(graph: ChannelGraph) -> dict[str, str]:
    """Return what stays and why, by the name of its layer or group; the model's ends are left out.

    Reasons name the operation, its node in the graph if there is one, and the source line.
    """
    return {name: why for name, why in why_left(graph).items() if why not in _ENDS}


def report(graph: ChannelGraph, cost: SlimCost) -> dict[str, Any]:
    """Return all there is to show: plain values that JSON takes.

    Returns:
        `reach`: shares of params and macs; `whole`: what the model costs; `groups`: each group's
        name, size, blocks, members and, if it cannot shrink, why; `left`: what stays and why;
        `unseen`: modules that the forward does not use.
    """
    return {
        "reach": reach_of(graph, cost),
        "whole": dict(cost.whole),
        "groups": [_group(group) for group in graph.groups],
        "left": left_of(graph),
        "unseen": list(graph.unseen),
    }


def _group(group: ChannelGroup) -> dict[str, Any]:
    members = [
        {"layer": m.key, "side": m.side, "channels": sum(i >= 0 for i in m.index)}
        for m in group.members
    ]
    blocks = [len(block.units) for block in group.blocks]
    return {
        "name": group.name,
        "size": group.size,
        "blocks": blocks,
        "members": members,
        "fixed": group.fixed,
    }


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield a report as lines of text: groups that can shrink, what stays and why, the reach."""
    for group in found["groups"]:
        if not group["fixed"]:
            sides = ", ".join(_member(m, group["size"]) for m in group["members"])
            yield f"{group['name']}: {group['size']} units; {sides}"
    fixed = {group["name"]: group["fixed"] for group in found["groups"] if group["fixed"]}
    for name, why in {**found["left"], **fixed}.items():
        yield f"left alone: {name}: {why}"
    for name in found["unseen"]:
        yield f"not used by forward: {name or 'the model itself'}"
    free = Counter(not group["fixed"] for group in found["groups"])[True]
    reach = found["reach"]
    yield (
        f"{free} of {len(found['groups'])} groups can shrink; in reach are "
        f"{reach['params']:.1%} of the parameters and {reach['macs']:.1%} of the MACs"
    )


def _member(member: dict[str, Any], size: int) -> str:
    count = "" if member["channels"] == size else f" ({member['channels']} channels)"
    return f"{member['layer']} {member['side']}{count}"
