"""Channel groups as data: which channels of which layers live and die together."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Side = Literal["in", "out"]


@dataclass(frozen=True)
class Member:
    """Tensors of one module that carry channels of a group: one side of a layer, or a parameter.

    Attributes:
        module: path of the owner.
        side: "out" for what the layer makes or passes on, "in" for what a convolution or linear
            layer reads. Norms, PReLU, parameters and the like have only an "out" side.
        index: for each channel on that side the unit of the group it belongs to, or -1 where it
            is not of this group.
        tensors: name of each parameter or buffer, and the dimension of it that the channels lie
            along; of what a grouped convolution reads, that of the channels of one of its groups.
        bare: whether it is no layer's but used by a forward itself, such as a layer scale.
        counted: whether it is no tensor but an attribute, such as `num_heads`, that is the number
            of channels; `tensors` has its name, and its place where it is one of several, or -1.
        summed: whether a product of activations sums over what it makes, as of queries and keys.
        normed: whether it is a norm whose statistics are those of the channels that stay.
        as_function: whether a forward calls the layer as a function, such as `F.layer_norm`.
    """

    module: str
    side: Side
    index: tuple[int, ...]
    tensors: tuple[tuple[str, int], ...] = ()
    bare: bool = False
    counted: bool = False
    summed: bool = False
    normed: bool = False
    as_function: bool = False

    @property
    def key(self) -> str:
        """Path of the layer, or name of the bare tensor in the model's state."""
        if not self.bare:
            return self.module
        name, place = self.tensors[0]
        parts = [self.module, name, str(place) if self.counted and place >= 0 else ""]
        return ".".join(filter(None, parts))


@dataclass(frozen=True)
class Block:
    """Units of a group that lie on the same layers.

    Attributes:
        units: their numbers within the group.
        channels: how many channels of a layer each unit stands for, on any of the layers that
            make or pass them, rising.
        spanned: whether one of these layers has other units of the group, too.
    """

    units: tuple[int, ...]
    channels: tuple[int, ...]
    spanned: bool


@dataclass(frozen=True)
class ChannelGroup:
    """Layers that carry the same channels.

    A unit is the least that can be kept or dropped: all channels, in all layers, that must go
    together. Most often a unit is one channel of each member.

    Attributes:
        name: path of the first layer that makes these channels.
        size: number of units.
        members: the layers, in the order they run.
        fixed: why no unit may be dropped; empty if units may.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    fixed: str = ""

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the group's first layer that each unit stands for."""
        return tuple(self._counts(self.members[0]).tolist())

    @property
    def blocks(self) -> tuple["Block", ...]:
        """The group's units, parted by the layers that they lie on.

        Most often there is one block. Where layers are concatenated and then added to another,
        each of them has its own block, and the other spans all of them.
        """
        members = [member for member in self.members if not member.counted]
        counts = np.stack([self._counts(member) for member in members])
        _, first, inverse = np.unique(counts, axis=1, return_index=True, return_inverse=True)
        made = np.array([member.side == "out" for member in members])
        table = counts[made]
        blocks = []
        for number in np.argsort(first):
            units = np.flatnonzero(inverse.ravel() == number)
            own = table[table[:, units[0]] > 0]
            spanned = bool((np.delete(own, units, axis=1) > 0).any())
            sizes = tuple(sorted(set(own[:, units[0]].tolist())))
            blocks.append(Block(tuple(units.tolist()), sizes, spanned))
        return tuple(blocks)

    def _counts(self, member: Member) -> NDArray[np.int64]:
        """Return the channels of a member that each unit stands for."""
        index = np.asarray(member.index)
        return np.bincount(index[index >= 0], minlength=self.size)


@dataclass(frozen=True)
class Layer:
    """What a layer costs, as far as the channels on its two sides decide it.

    Attributes:
        module: path of the layer, name of a bare parameter, or empty for a product of activations.
        inputs: number of each input channel in the graph's list of units, see `ChannelGraph`;
            empty for layers that pass channels on.
        outputs: the same for the outputs.
        groups: 1, or the number of groups that a grouped convolution keeps.
        positions: multiply-accumulates of one pair of input and output channel, over all calls.
        kernel: parameters of one such pair.
        per_output: further parameters of each output channel.
    """

    module: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    groups: int
    positions: int
    kernel: int
    per_output: int


@dataclass(frozen=True)
class ChannelGraph:
    """All channel groups of a model, and what decides the cost of its layers.

    Units are numbered through all groups that are not fixed, in order; `size` stands for
    everything that always stays.

    Attributes:
        groups: all groups, fixed ones too, in the order in which layers run.
        layers: every convolution, linear layer and norm that runs.
        unseen: paths of modules that have parameters which the traced `forward` does not use.
        altered: paths of modules that hooks, parametrizations or a replaced `forward` change; their
            channels stay.
    """

    groups: tuple[ChannelGroup, ...]
    layers: tuple[Layer, ...]
    unseen: tuple[str, ...]
    altered: tuple[str, ...] = ()

    @property
    def prunable(self) -> tuple[ChannelGroup, ...]:
        """The groups whose units may be dropped."""
        return tuple(group for group in self.groups if not group.fixed)

    @property
    def size(self) -> int:
        """Number of units in the prunable groups."""
        return sum(group.size for group in self.prunable)

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that tell models with other groups apart."""
        return self.fingerprint_of([group.name for group in self.prunable])

    def fingerprint_of(self, names: Collection[str]) -> str:
        """Return the fingerprint that the graph would have with these prunable groups alone."""
        groups = (group for group in self.prunable if group.name in names)
        text = ";".join(f"{group.name}:{group.size}" for group in groups)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
