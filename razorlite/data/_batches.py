"""What happens inside a loader's workers: which items, and one padded batch of them."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nn_functional
from torch import Tensor

from razorlite.core.errors import DataError, RazorliteError
from razorlite.data._items import Item, ItemMaker, unreadable
from razorlite.data.faults import Fault
from razorlite.structures import Target

_MOST_PIXELS = 1 << 30  # of a batch: 12 GB once they are floats


@dataclass(frozen=True)
class Order:
    """One batch to make: an epoch and the items' indices."""

    epoch: int
    indices: tuple[int, ...]


@dataclass
class Packed:
    """One batch on its way from a worker.

    Attributes:
        images: (B, 3, H, W) uint8, zeros at the right and bottom of smaller images.
        shapes: (height, width) of each image inside it.
        targets: B (class, fields) pairs with numpy arrays for tensors, or B labels.
        faults: what was found wrong on the way.
    """

    images: Tensor
    shapes: list[tuple[int, int]]
    targets: list[Any]
    faults: list[Fault] = field(default_factory=list)

    def pin_memory(self) -> "Packed":
        """Return the batch with its images in page-locked memory."""
        return Packed(self.images.pin_memory(), self.shapes, self.targets, self.faults)


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
        items: makes one item. Where it shuffles (training), the next readable image takes the place
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
            return None if not faults else Packed(torch.zeros(0, 3, 0, 0), [], [], faults)
        images, shapes = collate([image for image, _ in found], self.pad_multiple)
        canvas = (images.shape[-2], images.shape[-1])
        return Packed(images, shapes, [_pack(target, canvas) for _, target in found], faults)

    def _item(self, epoch: int, index: int, faults: list[Fault]) -> Item | None:
        def make(place: int) -> Item:
            self._at = self.dataset.keys[place]
            return self.items.make(epoch, place, faults)

        if self.items.shuffle:
            return self.items.readable(index, make, faults)
        try:
            return make(index)
        except OSError as error:
            faults.append(unreadable(self.dataset.keys[index], error, replaced=False))
            return None


def collate(images: list[Tensor], multiple: int) -> tuple[Tensor, list[tuple[int, int]]]:
    """Return (B, 3, H, W) with zeros at the right and bottom, and each image's (height, width).

    Raises:
        DataError: the batch would have more than a billion pixels.
    """
    shapes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
    height, width = (-(-max(side) // multiple) * multiple for side in zip(*shapes, strict=True))
    if len(images) * height * width > _MOST_PIXELS:
        raise DataError(
            f"{len(images)} images, padded to {width} x {height} pixels each, are too large for a "
            f"batch; resize or crop them first, or lower batch_size"
        )
    batch = images[0].new_zeros((len(images), 3, height, width))
    for place, image, (h, w) in zip(batch, images, shapes, strict=True):
        place[:, :h, :w] = image
    return batch, shapes


def unpack(packed: Any) -> Any:
    """Return the target that `_pack` packed."""
    if isinstance(packed, int):
        return packed
    kind, values = packed
    tensors = {k: torch.from_numpy(v) for k, v in values.items() if isinstance(v, np.ndarray)}
    return kind(**{**values, **tensors})


def _pack(target: Any, canvas: tuple[int, int]) -> Any:
    if not isinstance(target, Target):
        return int(target)
    values = {f.name: getattr(target, f.name) for f in fields(target)}
    if target.masks is not None:
        height, width = target.masks.shape[-2:]
        border = (0, canvas[1] - width, 0, canvas[0] - height)
        values["masks"] = nn_functional.pad(target.masks, border)
    arrays = {k: v.contiguous().numpy() for k, v in values.items() if isinstance(v, Tensor)}
    return type(target), {**values, **arrays}
