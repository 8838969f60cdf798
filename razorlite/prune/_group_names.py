"""Which channel group a name in a subnet file means."""

import re
from collections.abc import Collection

from razorlite.core.errors import SubnetError
from razorlite.core.registry import suggestion
from razorlite.trace import ChannelGraph, ChannelGroup, Member

# OpenMMLab's inverted residuals: number of the convolution to torchvision's names of it and of its
# norm. The first block does not expand, so that it lacks the first convolution.
_FIRST = {0: ("conv.0.0", "conv.0.1"), 1: ("conv.1", "conv.2")}
_EXPANDED = {0: ("conv.0.0", "conv.0.1"), 1: ("conv.1.0", "conv.1.1"), 2: ("conv.2", "conv.3")}
_STARTS = {1: 1, 2: 2, 3: 4, 4: 7, 5: 11, 6: 14, 7: 17}  # place of each stage's first block
_ENDS = {"conv1": 0, "conv2": 18}
_BLOCK = re.compile(r"(.*?)\blayer(\d+)\.(\d+)\.conv\.(\d)\.(conv|bn)$")
_END = re.compile(r"(.*?)\b(conv1|conv2)\.(conv|bn)$")


class GroupNames:
    """Finds groups by their names, and by layers that make all channels of a group, one a unit.

    A layer's path may have more or fewer parts in front; OpenMMLab's names of MobileNetV2's layers
    mean torchvision's.

    Args:
        graph: of the model.
        names: all that are asked for.
    """

    def __init__(self, graph: ChannelGraph, names: Collection[str]) -> None:
        self._groups = {group.name: group for group in graph.groups}
        self._makers = {
            member.module: group
            for group in graph.groups
            for member in group.members
            if _makes_all(member, group)
        }
        self._translated = torchvision_names(names)

    def __getitem__(self, name: str) -> ChannelGroup:
        """Return the group that a name means.

        Raises:
            SubnetError: there is none, or several; suggests a near name.
        """
        if name in self._groups:
            return self._groups[name]
        known = [self._found(path) for path in (name, self._translated.get(name, name))]
        for found in known:
            if len(found) == 1:
                return next(iter(found.values()))
        raise SubnetError(
            f"the model has no channel group {name!r}{suggestion(name, self._groups)}; "
            "the subnet belongs to another model"
        )

    def _found(self, path: str) -> dict[str, ChannelGroup]:
        """Return the groups of all layers that a path may mean."""
        if path in self._makers:
            return {path: self._makers[path]}
        return {
            group.name: group
            for layer, group in self._makers.items()
            if f".{layer}".endswith(f".{path}") or f".{path}".endswith(f".{layer}")
        }


def torchvision_names(names: Collection[str]) -> dict[str, str]:
    """Return torchvision's names of the layers that are OpenMMLab's of a MobileNetV2.

    Args:
        names: of layers of one model.
    """
    found = {name: _of_block(match) for name in names if (match := _BLOCK.match(name))}
    if not found:
        return {}
    ends = {name: match for name in names if (match := _END.match(name))}
    found |= {n: f"{m[1]}features.{_ENDS[m[2]]}.{int(m[3] == 'bn')}" for n, m in ends.items()}
    return found | {name: "classifier.1" for name in names if name.endswith("head.fc")}


def _of_block(match: re.Match[str]) -> str:
    """Return torchvision's name of a layer; nothing where there is no such layer."""
    front, stage, block, number, kind = match.groups()
    layers = (_FIRST if stage == "1" else _EXPANDED).get(int(number))
    start = _STARTS.get(int(stage))
    if layers is None or start is None:
        return ""
    return f"{front}features.{start + int(block)}.{layers[kind == 'bn']}"


def _makes_all(member: Member, group: ChannelGroup) -> bool:
    whole = tuple(range(group.size))
    return member.side == "out" and not member.bare and tuple(sorted(member.index)) == whole
