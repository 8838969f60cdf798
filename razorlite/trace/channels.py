"""From a model to its channel groups."""

import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import fx, nn

from razorlite.structures import example_inputs
from razorlite.trace.following import follow
from razorlite.trace.groups import ChannelGraph, ChannelGroup, Layer, Member, Side
from razorlite.trace.ledger import Labels, Ledger
from razorlite.trace.propagate import is_altered
from razorlite.trace.tracing import skeleton


def channel_groups(
    model: nn.Module, shape: tuple[int, int] = (224, 224), *, leaves: Sequence[str] = ()
) -> list[ChannelGroup]:
    """Return which channels of which layers must be kept or dropped together.

    Arguments, errors: as for `channel_graph`.
    """
    return list(channel_graph(model, shape, leaves=leaves).groups)


def channel_graph(
    model: nn.Module, shape: tuple[int, int] = (224, 224), *, leaves: Sequence[str] = ()
) -> ChannelGraph:
    """Trace `model.forward(images)` and return its channel groups and what its layers cost.

    The model is not changed and nothing is computed on data. It is read in evaluation mode and,
    as far as it can be traced there, in training mode.
    Groups that cannot shrink are there, too, with the reason in `fixed`: outputs of the model,
    calls that are not understood, channels that only fit together as a whole.

    Args:
        model: takes (N, 3, H, W) images as its first argument, or has `example`, see
            `razorlite.structures.example_inputs`.
        shape: (height, width) of the images in pixels.
        leaves: patterns of module paths (`"neck.attention*"`) that are not looked into; the
            channels that they read are fixed.

    Raises:
        ExportError: the forward cannot be traced, or fails on the shape.
    """
    ghost = skeleton(model)
    ledger = Ledger()
    traced = follow(ghost, ledger, example_inputs(model, shape, device="meta"), leaves)
    _fix_shared(ghost, ledger)
    _fix_read(ghost, ledger, traced)
    sorter = _Sorter(ledger)
    return ChannelGraph(
        groups=tuple(sorter.groups()),
        layers=tuple(sorter.layers(ghost)),
        unseen=_unseen(ghost, traced),
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


def _fix_read(model: nn.Module, ledger: Ledger, traced: Sequence[fx.GraphModule]) -> None:
    """Fix layers of which a forward reads weights or statistics itself, beside calling them."""
    nodes = [node for graph in traced for node in graph.graph.nodes if node.op == "get_attr"]
    found = {id(operator.attrgetter(str(node.target))(model)) for node in nodes}
    for path, module in model.named_modules():
        own = [*module._parameters.values(), *module._buffers.values()]
        if any(id(tensor) in found for tensor in own):
            for book in (ledger.produced, ledger.consumed, ledger.passed):
                reason = f"forward reads the weights of {path} itself"
                ledger.fix(book.get(path, np.empty(0, int)), reason)


def _unseen(model: nn.Module, traced: Sequence[fx.GraphModule]) -> tuple[str, ...]:
    """Return the modules whose own parameters no graph uses."""
    nodes = [node for graph in traced for node in graph.graph.nodes]
    targets = [str(n.target) for n in nodes if n.op in ("call_module", "get_attr")]
    used = tuple(target + "." for target in targets)
    names = {name: f"{name}." for name, _ in model.named_parameters()}
    unused = (n.rpartition(".")[0] for n, dotted in names.items() if not dotted.startswith(used))
    return tuple(dict.fromkeys(unused))


class _Sorter:
    """Sorts single channels into units, and units into groups."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
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
                self.reasons.setdefault(group, f"all {inside.sum()} channels only fit together")

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
        return [self._layer(path, model.get_submodule(path), number) for path in self.ledger.order]

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
        for path, side, labels in self._sides():
            for group in np.unique(self.group_of[labels[labels >= 0]]).tolist():
                inside = (labels >= 0) & (self.group_of[labels] == group)
                index = np.where(inside, self.local[labels], -1)
                members[group].append(Member(path, side, tuple(index.tolist())))
        return members

    def _sides(self) -> Iterator[tuple[str, Side, Labels]]:
        book = self.ledger
        for path in book.order:
            if path in book.consumed:
                yield path, "in", book.consumed[path]
            yield path, "out", book.produced[path] if path in book.produced else book.passed[path]

    def _layer(self, path: str, module: Any, number: Labels) -> Layer:
        book = self.ledger
        if path in book.passed:
            parameters = len(list(module.parameters(recurse=False)))
            outputs = tuple(number[book.passed[path]].tolist())
            return Layer(path, (), outputs, 1, 0, 0, parameters)
        inputs, groups = number[book.consumed[path]], getattr(module, "groups", 1)
        if path in book.whole:
            inputs, groups = np.repeat(number[-1:], len(inputs) // groups), 1
        outputs = tuple(number[book.produced[path]].tolist())
        kernel = math.prod(getattr(module, "kernel_size", ()))
        biases = int(module.bias is not None)
        macs = book.positions.get(path, 0)
        return Layer(path, tuple(inputs.tolist()), outputs, groups, macs, kernel, biases)
