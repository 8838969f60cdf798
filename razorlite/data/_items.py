"""Making single items: randomness by (seed, epoch, index), and the other images of mixing ones."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from razorlite.core.errors import DataError
from razorlite.data.dataset import Dataset
from razorlite.data.faults import UNREADABLE, Fault, first_line
from razorlite.data.transforms import Mixing, apply_all
from razorlite.structures import Inputs, Target, as_annotation

Item = tuple[Inputs, Any]
Transforms = Sequence[Callable[..., Any]]
_CACHE_SEED = -1  # in the place of an item's index


def global_order(count: int, *, seed: int, epoch: int, shuffle: bool) -> list[int]:
    """Return the order of all items in an epoch, the same in every process."""
    if not shuffle:
        return list(range(count))
    generator = torch.Generator().manual_seed(mixed_seed(seed, epoch))
    return torch.randperm(count, generator=generator).tolist()


def mixed_seed(*numbers: int) -> int:
    """Return a 63-bit seed that depends on all the numbers."""
    words = np.random.SeedSequence([n & 0xFFFFFFFFFFFFFFFF for n in numbers]).generate_state(2)
    return (int(words[0]) << 31) ^ int(words[1])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's, numpy's and Python's global random states, and put them back afterwards."""
    state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state[0])
        np.random.set_state(state[1])
        random.setstate(state[2])


class IndexCache:
    """Which items a bounded cache holds while an epoch's order passes through it.

    It starts full, as if the last items of the order had just passed.

    Args:
        order: the epoch's items, each once.
        size: most items held.
        random_pop: a random item leaves the full cache; otherwise the oldest.
        seed: of what leaves.
    """

    _STRIDE = 64  # positions between snapshots, from which any position is reached quickly

    def __init__(self, order: Sequence[int], size: int, random_pop: bool, seed: int) -> None:
        self._order, self._size = order, size
        slots = np.zeros(len(order), dtype=np.int64)
        if random_pop:
            slots = np.random.default_rng(seed).integers(size, size=len(order))
        self._slots = slots.tolist()
        self._snapshots = [list(order[-size:])]

    def held(self, position: int) -> list[int]:
        """Return the items held once the one at a position of the order has come in."""
        number, steps = divmod(position + 1, self._STRIDE)
        while len(self._snapshots) <= number:
            self._snapshots.append(self._passed(len(self._snapshots) - 1, self._STRIDE))
        return self._passed(number, steps)

    def _passed(self, number: int, steps: int) -> list[int]:
        """Return what is held some steps after a snapshot."""
        held, first = list(self._snapshots[number]), number * self._STRIDE
        for index, slot in zip(
            self._order[first : first + steps], self._slots[first : first + steps], strict=True
        ):
            if index in held:
                held.remove(index)
            elif len(held) == self._size:
                del held[slot]
            held.append(index)
        return held


class Memory:
    """Items in memory that a mixing transform may want again, at most as many as its cache holds.

    Only speed depends on it: what is not here is made again.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._items: dict[int, Item] = {}

    def __len__(self) -> int:
        return len(self._items)

    def get(self, index: int) -> Item | None:
        """Return an item, if it is here."""
        return self._items.get(index)

    def put(self, index: int, item: Item, held: Sequence[int]) -> None:
        """Take an item in, in the place of one that the cache no longer holds, or the oldest."""
        if len(self._items) >= self.size:
            oldest = next(iter(self._items))
            del self._items[next((key for key in self._items if key not in held), oldest)]
        self._items[index] = item


class Recipe:
    """Transforms, cut where one of them needs other images.

    An item passes `parts[0]`, `mixings[0]`, `parts[1]`, `mixings[1]`, and so on. Its form n is what
    it looks like after `parts[n]`; each form has its own seed, so that it can be made on its own.
    """

    def __init__(self, transforms: Transforms) -> None:
        self.mixings: list[Mixing] = []
        self.parts: list[list[Callable[..., Any]]] = [[]]
        for transform in transforms:
            if isinstance(transform, Mixing):
                self.mixings.append(transform)
                self.parts.append([])
            else:
                self.parts[-1].append(transform)


class ItemMaker:
    """Makes items of a data set; nothing but (seed, epoch, index) decides what they look like.

    Args:
        dataset: where the items are.
        transforms: applied in order.
        switch: (epoch, transforms) that take over from that epoch on.
        seed: of all random choices.
        training: epochs have random orders; otherwise annotations keep what evaluation needs.
    """

    def __init__(
        self,
        *,
        dataset: Dataset,
        transforms: Transforms,
        switch: tuple[int, Transforms] | None,
        seed: int,
        training: bool,
    ) -> None:
        self.dataset, self.seed, self.training = dataset, seed, training
        self._first = Recipe(transforms)
        self._switch = None if switch is None else (switch[0], Recipe(switch[1]))
        self._epoch = -1

    def make(self, epoch: int, index: int, faults: list[Fault]) -> Item:
        """Return an item as it looks in an epoch.

        Args:
            epoch: counts from 0.
            index: of the item.
            faults: gets what was wrong with other images on the way.

        Raises:
            OSError: the image cannot be read.
        """
        if epoch != self._epoch:
            self._begin(epoch)
        self._held = [cache.held(self._position[index]) for cache in self._caches]
        return self._form(len(self._caches), index, faults)

    def readable(self, index: int, make: Callable[[int], Item], faults: list[Fault]) -> Item:
        """Return what is made of an item, or of the next one whose image can be read.

        Raises:
            DataError: no image can be read.
        """
        for step in range(len(self.dataset)):
            position = (index + step) % len(self.dataset)
            try:
                return make(position)
            except OSError as error:
                faults.append(unreadable(self.dataset.keys[position], error, replaced=True))
        raise DataError(f"none of the {len(self.dataset)} images can be read; first {faults[0]}")

    def _begin(self, epoch: int) -> None:
        """Get ready for the items of an epoch."""
        late = self._switch is not None and epoch >= self._switch[0]
        self._recipe = self._switch[1] if self._switch is not None and late else self._first
        self._epoch, mixings = epoch, self._recipe.mixings
        self._caches, self._memories = [], [Memory(mixing.cache_size) for mixing in mixings]
        self._position: Any = range(len(self.dataset))  # no cache, no need of an order
        if not mixings:
            return
        order = global_order(len(self.dataset), seed=self.seed, epoch=epoch, shuffle=self.training)
        self._position = {index: position for position, index in enumerate(order)}
        for number, mixing in enumerate(mixings):
            seed = mixed_seed(self.seed, epoch, _CACHE_SEED, number)
            self._caches.append(IndexCache(order, mixing.cache_size, mixing.random_pop, seed))

    def _form(self, number: int, index: int, faults: list[Fault]) -> Item:
        """Return an item's form of a number; see `Recipe`."""
        last = number == len(self._memories)
        known = None if last else self._memories[number].get(index)
        if known is not None:
            return known
        numbers = (self.seed, self._epoch, index, number)
        with seeded(mixed_seed(*numbers[: 4 if number else 3])):
            item = self._mixed(number - 1, index, faults) if number else self._read(index)
            item = apply_all(self._recipe.parts[number], *item)
        if not last:
            self._memories[number].put(index, item, self._held[number])
        return item

    def _read(self, index: int) -> Item:
        """Return an item as it is, with what evaluation needs where it is for that."""
        inputs, target = self.dataset[index]
        annotation = as_annotation(target)
        return inputs, annotation if self.training else annotation.for_evaluation()

    def _mixed(self, number: int, index: int, faults: list[Fault]) -> Item:
        """Return an item's form with those mixed in that its cache holds."""
        mixing = self._recipe.mixings[number]
        image, target = _with_boxes(mixing, self._form(number, index, faults))
        drawn = mixing.draw(self._caches[number].held(self._position[index]))
        items = [
            self.readable(other, lambda position: self._form(number, position, faults), faults)
            for other in drawn
        ]
        others = [_with_boxes(mixing, item) for item in items]
        return mixing.mix(image, target, others) if others else (image, target)


def _with_boxes(mixing: Mixing, item: Item) -> tuple[Tensor, Target]:
    image, target = item
    if isinstance(image, Tensor) and isinstance(target, Target):
        return image, target
    raise DataError(
        f"{type(mixing).__name__} mixes images with boxes; got a {type(image).__name__} with a "
        f"{type(target).__name__}"
    )


def unreadable(key: str, error: OSError, replaced: bool) -> Fault:
    """Return the fault of an image that cannot be read."""
    done = "the next image takes its place" if replaced else "left out"
    return Fault(key, f"{UNREADABLE}: {first_line(error)}; {done}", UNREADABLE)
