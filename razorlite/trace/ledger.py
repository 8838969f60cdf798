"""Book-keeping of channels: who makes them, who reads them, which must go together.

Every output channel of every layer gets a number. Arrays of such numbers travel through the graph;
-1 stands for a channel that nothing is known about.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from razorlite.trace.attributes import Attribute, Owner, Product

Labels = NDArray[np.int64]


class Ledger:
    """Channels of one model: a union-find over single channels, and what was seen of layers.

    Attributes:
        parent: for each number a lower one that it is tied to, or itself.
        order: layers in the order in which they first run.
        produced: for each layer that makes channels, their numbers.
        consumed: for each layer that reads channels through weights, the numbers it reads.
        passed: for each layer with one parameter per channel, the numbers that pass.
        positions: multiply-accumulates per pair of channels of each layer, summed over calls.
        whole: grouped convolutions whose groups are kept or dropped whole.
        functions: layers that a forward calls as functions.
        normed: norms whose statistics are those of the channels that stay.
        tensors: for each bare parameter or buffer the numbers of its elements, in its shape.
        products: of channels along which activations are multiplied, the numbers on both sides
            and the multiply-accumulates of each pair.
        summed: numbers of channels that such a product sums over.
        shifted: numbers of channels that may be nonzero where the layer that makes them gives 0.
        tied: numbers of channels of one map that were tied to one another, and by what.
        counted: for each attribute of a module the numbers of the channels that it counts.
        rigid: attributes that must stay, and those in products with them that count.
        fixed: numbers that must stay, and why.
        counting: whether calls cost multiply-accumulates; those in training mode do not.
    """

    def __init__(self) -> None:
        """Start with no channels."""
        self.parent: list[int] = []
        self.order: dict[str, None] = {}
        self.produced: dict[str, Labels] = {}
        self.consumed: dict[str, Labels] = {}
        self.passed: dict[str, Labels] = {}
        self.positions: dict[str, int] = {}
        self.whole: set[str] = set()
        self.functions: set[str] = set()
        self.normed: set[str] = set()
        self.tensors: dict[str, Labels] = {}
        self.products: list[tuple[Labels, Labels, int]] = []
        self.summed: list[Labels] = []
        self.shifted: list[Labels] = []
        self.tied: list[tuple[Labels, str]] = []
        self.counted: dict[Owner, Labels] = {}
        self.rigid: dict[Owner, Owner] = {}
        self.fixed: list[tuple[Labels, str]] = []
        self.counting = True
        self._roots: Labels | None = None  # of all numbers, until more are tied

    def produce(self, path: str, count: int) -> Labels:
        """Return the numbers of what a layer makes: new ones at its first call, then the same."""
        if path not in self.produced:
            start = len(self.parent)
            self.parent.extend(range(start, start + count))
            self.produced[path] = np.arange(start, start + count)
        return self.produced[path]

    def elements(self, name: str, shape: Sequence[int]) -> Labels:
        """Return the numbers of a bare tensor's elements, in its shape."""
        if name not in self.tensors:
            start, count = len(self.parent), math.prod(shape)
            self.parent.extend(range(start, start + count))
            self.tensors[name] = np.arange(start, start + count).reshape(tuple(shape))
        return self.tensors[name]

    def is_free(self, labels: Labels) -> bool:
        """Return whether numbers are of one bare tensor that has met no channels yet."""
        for numbers in self.tensors.values():
            start, stop = int(numbers.flat[0]), int(numbers.flat[-1]) + 1
            if labels.size and ((labels >= start) & (labels < stop)).all():
                roots = self.roots(np.arange(len(self.parent)))
                outside = np.concatenate([roots[:start], roots[stop:]])
                return not np.isin(roots[start:stop], outside).any()
        return False

    def consume(self, path: str, labels: Labels) -> None:
        """Note what a layer reads; what it reads in later calls must go together with it."""
        self.order.setdefault(path)
        self.match(self.consumed.setdefault(path, labels), labels, f"input of {path}")

    def passing(self, path: str, labels: Labels) -> None:
        """Note what passes through a layer with one parameter per channel."""
        self.order.setdefault(path)
        self.match(self.passed.setdefault(path, labels), labels, f"input of {path}")

    def match(self, first: Labels, second: Labels, where: str) -> None:
        """Tie two arrays of numbers place by place, as an addition does."""
        first, second = np.broadcast_arrays(first, second)
        parted = first != second
        if not parted.any():
            return
        pairs = np.unique(np.stack([first[parted], second[parted]]), axis=1)
        known = (pairs >= 0).all(0)
        self.fix(pairs[:, ~known], f"joined with channels that cannot be followed at {where}")
        for a, b in pairs[:, known].T.tolist():
            self._union(a, b)

    def meet(self, first: Labels, second: Labels, where: str) -> Labels:
        """Tie two arrays place by place; return the numbers of what they become."""
        self.match(first, second, where)
        return np.maximum(first, second)

    def tie(self, rows: Labels, where: str) -> None:
        """Tie all numbers of each row of an (R, K) array."""
        if rows.shape[1] > 1:
            self.tied.append((rows.ravel(), where))
        for column in range(1, rows.shape[1]):
            self.match(rows[:, 0], rows[:, column], where)

    def count(self, number: Attribute, labels: Labels, where: str) -> None:
        """Note which channels an attribute counts; those of other uses go together with them."""
        every = np.tile(labels, number.times)
        self.match(self.counted.setdefault(number.owner, every), every, where)
        if (labels < 0).any():
            self.fix(labels, f"brought to a set size at {where}")

    def counts(self, number: Product, labels: Labels) -> bool:
        """Return whether channels are as many as a product of attributes, however many go."""
        first, second = number.factors
        known = self.counted.get(first.owner)
        if known is None or second.owner in self.counted or first.times > 1:
            return False
        self.rigid[second.owner] = first.owner
        rows = self.roots(labels).reshape(len(known), -1)
        return bool((rows == self.roots(known)[:, None]).all())

    def charge(self, path: str, positions: int) -> None:
        """Note what a pair of channels of a layer costs."""
        self.positions[path] = self.positions.get(path, 0) + positions * self.counting

    def multiply(self, labels: Labels, macs: int, others: Labels | None = None) -> None:
        """Note channels along which activations are multiplied, and what each of them costs.

        Args:
            labels: the channels.
            macs: multiply-accumulates of each, or of each pair.
            others: what each of them is multiplied with; nothing that can shrink by default.
        """
        if self.counting:
            self.products.append((np.array([-1]) if others is None else others, labels, macs))

    def is_shifted(self, labels: Labels) -> bool:
        """Return whether channels may be nonzero where the layers that make them give 0."""
        shifted = [numbers.ravel() for numbers in (*self.shifted, *self.tensors.values())]
        return bool(shifted) and bool(self.among(shifted, labels).any())

    def among(self, some: Sequence[Labels], labels: Labels) -> NDArray[np.bool_]:
        """Return of each number whether it is tied to one of some others."""
        known = self.roots(np.concatenate([np.empty(0, np.int64), *some]))
        return np.isin(self.roots(labels), known[known >= 0])

    def fix(self, labels: Labels, reason: str) -> None:
        """Note that channels must stay."""
        labels = np.unique(labels)
        labels = labels[labels >= 0]
        if labels.size:
            self.fixed.append((labels, reason))

    def roots(self, labels: Labels) -> Labels:
        """Return for each number the least one it is tied to; -1 stays."""
        if self._roots is None or len(self._roots) <= len(self.parent):
            self._roots = _settled(np.append(np.asarray(self.parent, dtype=np.int64), -1))
        found: Labels = self._roots[labels]
        return found

    def _root(self, label: int) -> int:
        parent = self.parent
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    def _union(self, a: int, b: int) -> None:
        a, b = self._root(a), self._root(b)
        self.parent[max(a, b)] = min(a, b)
        self._roots = None


def _settled(parents: Labels) -> Labels:
    """Return the root of each number, given one that it is tied to."""
    while not np.array_equal(higher := parents[parents], parents):
        parents = higher
    return parents
