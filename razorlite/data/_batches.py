"""What happens inside a loader's workers: which items, and one padded batch of them."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from razorlite.core.errors import RazorliteError
from razorlite.data._items import Item, ItemMaker, unreadable
from razorlite.data.faults import Fault
from razorlite.structures import Batch, Inputs, map_inputs, packed, unpacked


@dataclass(frozen=True)
class Order:
    """One batch to make: an epoch and the items' indices."""

    epoch: int
    indices: tuple[int, ...]


@dataclass
class Packed:
    """One batch on its way from a worker.

    Attributes:
        inputs: of all samples, on the CPU.
        sizes: (height, width) of each sample's images inside it.
        targets: B packed annotations (see `razorlite.structures.packed`), or one tensor of labels.
        faults: what was found wrong on the way.
    """

    inputs: Inputs
    sizes: tuple[tuple[int, int], ...] = ()
    targets: Any = ()
    faults: list[Fault] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.targets)

    def pin_memory(self) -> "Packed":
        """Return the batch with its inputs in page-locked memory."""
        return replace(self, inputs=map_inputs(Tensor.pin_memory, self.inputs))

    def unpack(self) -> Batch:
        """Return the batch."""
        targets = self.targets if isinstance(self.targets, Tensor) else unpacked(self.targets)
        return Batch(self.inputs, targets, self.sizes)


@dataclass(frozen=True)
class Failure:
    """What went wrong in a worker, in one line, and the traceback for the debug log."""

    message: str
    trace: str


def split_orders(
    order: Sequence[int],
    *,
    epoch: int,
    batch_size: int,
    rank: int,
    world_size: int,
    even: bool,
    drop_last: bool,
) -> list[Order]:
    """Return this rank's batches.

    Each run of world_size * batch_size items is one global batch; rank r takes its items r,
    r + world_size, …, so the ranks' batches joined are one process's batch of that size.

    Args:
        order: all items.
        epoch: goes into the orders.
        batch_size: items in a batch of one rank.
        rank, world_size: which part to return.
        even: give every rank as many items, by starting again at the front (training).
        drop_last: leave out a global batch that is not full, unless it is the only one.
    """
    items, whole = list(order), batch_size * world_size
    if drop_last and len(items) >= whole:
        items = items[: len(items) // whole * whole]
    if even:
        items += [items[i % len(items)] for i in range(-len(items) % world_size)]
    chunks = [items[i : i + whole][rank::world_size] for i in range(0, len(items), whole)]
    return [Order(epoch, tuple(chunk)) for chunk in chunks if chunk]


class BatchMaker:
    """Makes and collates the items of an order.

    Args:
        items: makes one item. In training the next readable image takes the place
            of an unreadable one; else that is left out.
        pad_multiple: sides of the batch are multiples of it.
    """

    def __init__(self, items: ItemMaker, *, pad_multiple: int) -> None:
        self.items, self.pad_multiple = items, pad_multiple
        self.dataset, self.seed = items.dataset, items.seed
        self._at = "its end"

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, order: Order) -> "Packed | Failure | None":
        """Return the batch, what went wrong, or None if no image of it could be read."""
        try:
            return self.make(order)
        except RazorliteError as error:
            return Failure(str(error), traceback.format_exc())
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"
            text = f"making a training batch failed at {self._at}: {what}"
            return Failure(text, traceback.format_exc())

    def make(self, order: Order) -> "Packed | None":
        """Return the batch, or None if no image of it could be read."""
        faults: list[Fault] = []
        items = [self._item(order.epoch, index, faults) for index in order.indices]
        found = [item for item in items if item is not None]
        self._at = "its end"
        if not found:
            return None if not faults else Packed(torch.zeros(0, 3, 0, 0), faults=faults)
        batch = self.dataset.collate(found, self.pad_multiple)
        targets = batch.targets if isinstance(batch.targets, Tensor) else packed(batch.targets)
        return Packed(batch.inputs, batch.sizes or (), targets, faults)

    def _item(self, epoch: int, index: int, faults: list[Fault]) -> Item | None:
        def make(place: int) -> Item:
            self._at = self.dataset.keys[place]
            return self.items.make(epoch, place, faults)

        if self.items.training:
            return self.items.readable(index, make, faults)
        try:
            return make(index)
        except OSError as error:
            faults.append(unreadable(self.dataset.keys[index], error, replaced=False))
            return None
