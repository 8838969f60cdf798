"""From a model to its channel groups."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from razorlite.trace.calls import is_altered
from razorlite.trace.following import How, Reading, read
from razorlite.trace.groups import ChannelGraph, ChannelGroup, Layer, Member
from razorlite.trace.ledger import Labels, Ledger
from razorlite.trace.parameters import bias_of, channel_dim, side_tensors


def channel_groups(
    model: nn.Module,
    example: Any = (224, 224),
    *,
    leaves: Sequence[str] = (),
    how: How = "auto",
) -> list[ChannelGroup]:
    """Return which channels of which layers must be kept or dropped together.

    Arguments, errors: as for `channel_graph`.
    """
    return list(channel_graph(model, example, leaves=leaves, how=how).groups)


def channel_graph(
    model: nn.Module,
    example: Any = (224, 224),
    *,
    leaves: Sequence[str] = (),
    how: How = "auto",
) -> ChannelGraph:
    """Follow channels through a model's forward; return its groups and what its layers cost.

    The model is not changed. It is read in evaluation mode and, as far as it goes, in training
    mode. Where torch.fx can follow the forward, nothing is computed; where it cannot (lists of
    images, loops and branches that depend on data), a copy is run once and its calls are watched.
    Groups that cannot shrink are there, too, with the reason in `fixed`: outputs of the model,
    calls that are not understood, channels that only fit together as a whole.

    Args:
        model: what to read.
        example: (height, width) in pixels of the images that the model takes, (N, 3, H, W), or of
            its own example, see `razorlite.structures.example_inputs`; or what it is called with:
            a tuple of positional arguments, or the only one, such as a list of images.
        leaves: patterns of module paths (`"neck.attention*"`) that are not looked into; the
            channels that they read are fixed.
        how: "graph" for torch.fx alone, "run" for the watched run alone.

    Raises:
        ExportError: the forward cannot be followed, or fails on the example.
    """
    twin, ledger, reading = read(model, example, leaves, how)
    _fix_shared(twin, ledger)
    _fix_read(twin, ledger, reading)
    _fix_tensors(ledger)
    _fix_reckoned(ledger)
    sorter = _Sorter(ledger, twin)
    return ChannelGraph(
        groups=tuple(sorter.groups()),
        layers=tuple(sorter.layers(twin)),
        unseen=_unseen(twin, reading),
        altered=tuple(name for name, module in model.named_modules() if is_altered(module)),
    )


def _fix_shared(model: nn.Module, ledger: Ledger) -> None:
    """Fix what different layers with one and the same parameter read and make."""
    owner: dict[int, str] = {}
    for path, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            first = owner.setdefault(id(parameter), path)
            for name in {first, path} if first != path else ():
                for book in (ledger.produced, ledger.consumed, ledger.passed):
                    ledger.fix(book.get(name, np.empty(0, int)), f"weights shared with {first}")


def _fix_read(model: nn.Module, ledger: Ledger, reading: Reading) -> None:
    """Fix layers of which a forward reads weights or statistics itself, beside calling them."""
    for path, module in model.named_modules():
        own = [*module._parameters.values(), *module._buffers.values()]
        if any(x is not None and x.dim() and id(x) in reading.read for x in own):
            for book in (ledger.produced, ledger.consumed, ledger.passed):
                reason = f"forward reads the weights of {path} itself"
                ledger.fix(book.get(path, np.empty(0, int)), reason)


def _unseen(model: nn.Module, reading: Reading) -> tuple[str, ...]:
    """Return the modules whose own parameters nothing uses that was seen."""
    called = tuple(f"{path}." for path in reading.called)
    unused = (
        name.rpartition(".")[0]
        for name, parameter in model.named_parameters()
        if not f"{name}.".startswith(called) and id(parameter) not in reading.read
    )
    return tuple(dict.fromkeys(unused))


def _fix_tensors(ledger: Ledger) -> None:
    """Fix bare tensors whose elements belong to channels along several dimensions."""
    for name, numbers in ledger.tensors.items():
        if channel_dim(ledger.roots(numbers)) is None:
            ledger.fix(numbers, f"channels lie along several dimensions of {name}, or none")


def _fix_reckoned(ledger: Ledger) -> None:
    """Fix what attributes count with which a forward computes, too."""
    products = [
        owner for pair in ledger.rigid.items() if pair[0] in ledger.counted for owner in pair
    ]
    for owner, labels in ledger.counted.items():
        if owner.reckoned or owner in products:
            name = ".".join(filter(None, [owner.module, owner.name]))
            ledger.fix(labels, f"their number, {name}, is reckoned with")


class _Sorter:
    """Sorts single channels into units, and units into groups."""

    def __init__(self, ledger: Ledger, model: nn.Module) -> None:
        self.ledger, self.model = ledger, model
        everything = np.arange(len(ledger.parent))
        self.unit_of = ledger.roots(everything)
        self.group_of = self._join_groups(everything)
        self.names = self._names()
        self.reasons = self._reasons()
        self.local, self.sizes = np.zeros_like(everything), dict[int, int]()
        for group in np.unique(self.group_of).tolist():
            inside = self.group_of == group
            units, places = np.unique(self.unit_of[inside], return_inverse=True)
            self.local[inside], self.sizes[group] = places.ravel(), len(units)
            if len(units) == 1:
                self.reasons.setdefault(group, self._together(inside))

    def _together(self, inside: NDArray[np.bool_]) -> str:
        """Return why the channels of a group cannot part, given a mask of them."""
        ties = (where for numbers, where in self.ledger.tied if inside[numbers[numbers >= 0]].any())
        count = int(inside.sum())
        if count == 1:
            return "it has one channel"
        by = next(ties, "different channels are added to one another")
        return f"its {count} channels can only go all at once: {by}"

    def groups(self) -> list[ChannelGroup]:
        """Return the groups in the order in which layers run."""
        members = self._members()
        return [
            ChannelGroup(name, self.sizes[g], tuple(members[g]), self.reasons.get(g, ""))
            for g, name in sorted(self.names.items())
        ]

    def layers(self, model: nn.Module) -> list[Layer]:
        """Return the costs of all layers, with units numbered through the prunable groups."""
        number = np.zeros(len(self.local) + 1, dtype=np.int64)
        start = 0
        free = [g for g in sorted(self.names) if g not in self.reasons]
        for group in free:
            inside = np.flatnonzero(self.group_of == group)
            number[inside] = start + self.local[inside]
            start += self.sizes[group]
        number[:-1][~np.isin(self.group_of, free)] = number[-1] = start
        layers = [self._layer(p, model.get_submodule(p), number) for p in self.ledger.order]
        for name, _, labels in self._bare():
            layers += self._tensor(name, number[labels])
        for *sides, macs in self.ledger.products:
            inputs, outputs = (tuple(number[labels].tolist()) for labels in sides)
            layers.append(Layer("", inputs, outputs, 1, macs, 0, 0))
        return layers

    def _join_groups(self, everything: Labels) -> Labels:
        """Return for each channel the least channel of its group: layers keep theirs together."""
        book = Ledger()
        book.parent = everything.tolist()
        book.match(everything, self.unit_of, "")
        for path, labels in self.ledger.produced.items():
            if path not in self.ledger.whole:
                book.match(labels, labels[:1], "")
        return book.roots(everything)

    def _names(self) -> dict[int, str]:
        """Return for each group the first layer that makes its channels."""
        makers = [p for p in self.ledger.produced if p in self.ledger.consumed]
        names: dict[int, str] = {}
        for path in sorted(makers, key=lambda p: p in self.ledger.whole):
            for group in np.unique(self.group_of[self.ledger.produced[path]]).tolist():
                names.setdefault(group, path)
        return names

    def _reasons(self) -> dict[int, str]:
        reasons: dict[int, str] = {}
        for labels, reason in self.ledger.fixed:
            for group in np.unique(self.group_of[labels]).tolist():
                reasons.setdefault(group, reason)
        return reasons

    def _members(self) -> dict[int, list[Member]]:
        members: dict[int, list[Member]] = {group: [] for group in self.sizes}
        for empty, labels in self._sides():
            for group in np.unique(self.group_of[labels[labels >= 0]]).tolist():
                inside = (labels >= 0) & (self.group_of[labels] == group)
                index = np.where(inside, self.local[labels], -1)
                members[group].append(replace(empty, index=tuple(index.tolist())))
        return members

    def _sides(self) -> Iterator[tuple[Member, Labels]]:
        """Yield all members without their index, and the numbers of their channels."""
        book = self.ledger
        for path in book.order:
            layer = self.model.get_submodule(path)
            called = path in book.functions
            if path in book.consumed:
                reads = Member(path, "in", (), side_tensors(layer, "in"), as_function=called)
                yield reads, book.consumed[path]
            made = book.produced[path] if path in book.produced else book.passed[path]
            summed = bool(book.among(book.summed, made).any())
            makes = Member(path, "out", (), side_tensors(layer, "out"), as_function=called)
            yield replace(makes, summed=summed, normed=path in book.normed), made
        for name, dim, labels in self._bare():
            path, _, own = name.rpartition(".")
            yield Member(path, "out", (), ((own, dim),), bare=True), labels
        for owner, labels in book.counted.items():
            place = ((owner.name, owner.item),)
            yield Member(owner.module, "out", (), place, bare=True, counted=True), labels

    def _bare(self) -> Iterator[tuple[str, int, Labels]]:
        """Yield bare tensors that carry channels: name, dimension, numbers along it."""
        for name, numbers in self.ledger.tensors.items():
            dim = channel_dim(self.unit_of[numbers])
            if dim is not None:
                yield name, dim, np.moveaxis(numbers, dim, 0).reshape(numbers.shape[dim], -1)[:, 0]

    def _tensor(self, name: str, units: Labels) -> Iterator[Layer]:
        """Yield what a bare parameter costs; a buffer costs nothing."""
        owner, _, own = name.rpartition(".")
        parameter = self.model.get_submodule(owner)._parameters.get(own)
        if parameter is not None:
            each = parameter.numel() // len(units)
            yield Layer(name, (), tuple(units.tolist()), 1, 0, 0, each)

    def _layer(self, path: str, module: Any, number: Labels) -> Layer:
        book = self.ledger
        if path in book.passed:
            outputs = tuple(number[book.passed[path]].tolist())
            own = [getattr(module, name, None) for name in ("weight", "bias")]
            parameters = sum(x.numel() // len(outputs) for x in own if x is not None)
            return Layer(path, (), outputs, 1, 0, 0, parameters)
        inputs, groups = number[book.consumed[path]], getattr(module, "groups", 1)
        if path in book.whole:
            inputs, groups = np.repeat(number[-1:], len(inputs) // groups), 1
        outputs = tuple(number[book.produced[path]].tolist())
        kernel = math.prod(getattr(module, "kernel_size", ()))
        biases = int(bias_of(module) is not None)
        macs = book.positions.get(path, 0)
        return Layer(path, tuple(inputs.tolist()), outputs, groups, macs, kernel, biases)
