"""Check that a slim model carries every kept channel to the places where it was read before."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from razorlite.core.errors import ExportError
from razorlite.trace.following import read
from razorlite.trace.groups import ChannelGraph, Side
from razorlite.trace.ledger import Labels, Ledger

Sides = Mapping[str, Mapping[Side, Labels]]
_ANY = -2  # the number of elements of bare tensors, which are not checked


def unit_numbers(graph: ChannelGraph) -> dict[str, dict[Side, Labels]]:
    """Return, for each side of each layer, the unit that every channel belongs to.

    Units are numbered through the prunable groups; `graph.size` stands for all that is fixed.
    """
    sides: dict[str, dict[Side, Labels]] = {}
    start = 0
    for group in graph.groups:
        for member in group.members:
            index = np.asarray(member.index)
            blank = np.full(len(index), graph.size)
            line = sides.setdefault(member.key, {}).setdefault(member.side, blank)
            if not group.fixed:
                line[index >= 0] = start + index[index >= 0]
        start += 0 if group.fixed else group.size
    return sides


def check_channels(
    slim: nn.Module,
    expected: Sides,
    always: int,
    example: Any = (224, 224),
    leaves: Sequence[str] = (),
) -> None:
    """Follow channels through a slim model and compare what each layer reads.

    Args:
        slim: the slim model; not changed.
        expected: unit numbers of the channels on each side of each layer.
        always: the number that stands for channels outside all groups.
        example: what the model is called with, as for `channel_graph`.
        leaves: patterns of module paths that are not looked into.

    Raises:
        ExportError: a layer would read other channels than before, or the model does not run.
    """
    try:
        read(slim, example, leaves, ledger=lambda: _Expectation(expected, always))
    except ExportError as error:
        raise ExportError(f"the slim model does not fit together: {error}") from error


class _Expectation(Ledger):
    """A ledger in which everything is settled: it compares where the other one ties."""

    def __init__(self, expected: Sides, always: int) -> None:
        super().__init__()
        self.expected, self.always = expected, always

    def produce(self, path: str, count: int) -> Labels:
        side = self.expected.get(path, {})
        return side.get("out", np.full(count, self.always))

    def elements(self, name: str, shape: Sequence[int]) -> Labels:
        return np.full(tuple(shape), _ANY)  # a size that does not fit shows when the model runs

    def is_free(self, labels: Labels) -> bool:
        return False

    def consume(self, path: str, labels: Labels) -> None:
        self._compare(path, "in", labels)

    def passing(self, path: str, labels: Labels) -> None:
        self._compare(path, "out", labels)

    def match(self, first: Labels, second: Labels, where: str) -> None:
        first, second = np.broadcast_arrays(self._known(first), self._known(second))
        if not ((first == second) | (first == _ANY) | (second == _ANY)).all():
            raise ExportError(_other_channels(where))

    def meet(self, first: Labels, second: Labels, where: str) -> Labels:
        first, second = self._known(first), self._known(second)
        if first.size == second.size == 1:  # perhaps one channel that was used for many
            return np.minimum(first, second)
        return super().meet(first, second, where)

    def tie(self, rows: Labels, where: str) -> None:
        return

    def fix(self, labels: Labels, reason: str) -> None:
        return

    def is_shifted(self, labels: Labels) -> bool:
        return False

    def roots(self, labels: Labels) -> Labels:
        return labels

    def _compare(self, path: str, side: Side, labels: Labels) -> None:
        expected = self.expected.get(path, {}).get(side, np.full(len(labels), self.always))
        if not np.array_equal(expected, self._known(labels)):
            raise ExportError(_other_channels(path))

    def _known(self, labels: Labels) -> Labels:
        return np.where(labels == -1, self.always, labels)


def _other_channels(where: str) -> str:
    return (
        f"{where} would get other channels than in the whole model; "
        "name the modules that make them in `ignore`"
    )
