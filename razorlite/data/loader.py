"""Batches for training and testing: parallel, exact on resume, split over ranks."""

import logging
import weakref
from collections.abc import Iterator
from dataclasses import replace

import torch

from razorlite.core import distributed
from razorlite.core.errors import ConfigError, DataError
from razorlite.data._batches import (
    BatchMaker,
    Failure,
    Order,
    Packed,
    split_orders,
)
from razorlite.data._items import ItemMaker, Transforms, global_order
from razorlite.data._workers import WorkerPool
from razorlite.data.dataset import Dataset
from razorlite.data.preprocess import Normalise, Preprocess
from razorlite.structures import Batch

_log = logging.getLogger(__name__)


def build_loader(
    dataset: Dataset,
    *,
    transforms: Transforms | None = None,
    switch: tuple[int, Transforms] | None = None,
    batch_size: int = 8,
    num_workers: int = 0,
    seed: int = 0,
    training: bool = True,
    preprocess: Preprocess | None = None,
    device: torch.device | str = "cpu",
    layout: torch.memory_format = torch.channels_last,
    drop_last: bool = False,
    keep_batches: bool = False,
    rank: int | None = None,
    world_size: int | None = None,
) -> "Loader":
    """Return a loader of normalised batches.

    What an item looks like depends only on (seed, epoch, its index): neither the number of
    workers, nor resuming, nor the number of ranks changes it.

    Args:
        dataset: what to load.
        transforms: called in order with (inputs, annotation); those of `preprocess` by default.
        switch: (epoch, transforms) that take over from that epoch, counted from 0, on.
        batch_size: images in a batch of this rank.
        num_workers: processes that read ahead; 0 reads in this one.
        seed: of the order and of the transforms.
        training: a new order each epoch, every rank as many items, and the next image in the place
            of one that cannot be read. Otherwise items come in order, each on exactly one rank, and
            annotations keep what evaluation needs.
        preprocess: what images go through before the model; by default ImageNet's mean and std.
        device: where batches go; they are normalised there.
        layout: how images lie in memory.
        drop_last: leave out a last batch that is not full.
        keep_batches: make each batch once and keep it in memory; for small evaluation sets whose
            transforms are not random.
        rank, world_size: this process's part; from torch.distributed by default.

    Raises:
        ConfigError: a number is out of range, or `keep_batches` in training.
        DataError: the data set is empty.
    """
    _check(len(dataset), batch_size, num_workers, training and keep_batches)
    preprocess = preprocess or Preprocess()
    steps = preprocess.image_transforms() if transforms is None else transforms
    items = ItemMaker(
        dataset=dataset, transforms=steps, switch=switch, seed=seed, training=training
    )
    return Loader(
        BatchMaker(items, pad_multiple=preprocess.pad_multiple),
        batch_size=batch_size,
        num_workers=num_workers,
        training=training,
        normalise=Normalise(preprocess, device, layout),
        drop_last=drop_last,
        keep_batches=keep_batches,
        rank=distributed.rank() if rank is None else rank,
        world_size=distributed.world_size() if world_size is None else world_size,
    )


class Loader:
    """Normalised batches of a data set; see `build_loader`.

    Iterating starts at the position last set, by default the first batch of epoch 0; a finished
    pass over training data moves on to the next epoch.

    Attributes:
        dataset: what is loaded.
        batch_size: images in a full batch of this rank.
        normalise: what is done on the device.
    """

    def __init__(
        self,
        maker: BatchMaker,
        *,
        batch_size: int,
        num_workers: int,
        training: bool,
        normalise: Normalise,
        drop_last: bool,
        keep_batches: bool,
        rank: int,
        world_size: int,
    ) -> None:
        self.dataset, self.batch_size, self.normalise = maker.dataset, batch_size, normalise
        self._maker, self._num_workers, self._training = maker, num_workers, training
        self._drop_last, self._rank, self._world_size = drop_last, rank, world_size
        self._kept: list[Packed] | None = None
        self._keep = keep_batches
        self._position = (0, 0)
        self._length = len(self._orders(0))
        self._pool = WorkerPool(maker, num_workers, pin=normalise.device.type == "cuda")
        weakref.finalize(self, self._pool.stop)  # also when the interpreter ends

    def __len__(self) -> int:
        """Batches of this rank in an epoch."""
        return self._length

    def set_position(self, epoch: int, batch_index: int = 0) -> None:
        """Let the next pass start at a batch of an epoch, as if all before it had been read."""
        self._position = (epoch, batch_index)

    def __iter__(self) -> Iterator[Batch]:
        epoch, start = self._position
        for packed in self._packed(epoch, start):
            if len(packed):
                yield self._finish(packed.unpack())
        if self._training:
            self._position = (epoch + 1, 0)

    def close(self) -> None:
        """Stop the worker processes; iterating again starts new ones."""
        self._pool.stop()

    def _orders(self, epoch: int) -> list[Order]:
        order = global_order(
            len(self.dataset), seed=self._maker.seed, epoch=epoch, shuffle=self._training
        )
        return split_orders(
            order,
            epoch=epoch,
            batch_size=self.batch_size,
            rank=self._rank,
            world_size=self._world_size,
            even=self._training,
            drop_last=self._drop_last,
        )

    def _packed(self, epoch: int, start: int) -> Iterator[Packed]:
        if not self._keep:
            yield from self._made(self._orders(epoch)[start:])
            return
        if self._kept is None:
            self._kept = list(self._made(self._orders(epoch)))
            self.close()
        yield from self._kept[start:]

    def _made(self, orders: list[Order]) -> Iterator[Packed]:
        for made in self._here(orders) if self._num_workers == 0 else self._pool.make(orders):
            if isinstance(made, Failure):
                _log.debug("%s", made.trace)
                raise DataError(made.message)
            if made is not None:
                for fault in made.faults:
                    self.dataset.note(fault)
                yield made

    def _here(self, orders: list[Order]) -> Iterator[Packed | Failure | None]:
        return (self._maker[order] for order in orders)

    def _finish(self, batch: Batch) -> Batch:
        """Return a batch on the device, its images normalised."""
        moved = batch.to(self.normalise.device)
        return replace(moved, inputs=self.normalise(moved.inputs, moved.image_sizes()))


def _check(count: int, batch_size: int, num_workers: int, kept_training: bool) -> None:
    if count == 0:
        raise DataError("cannot load batches of an empty data set; expected at least one image")
    if batch_size < 1 or num_workers < 0:
        raise ConfigError(
            f"a loader wants batch_size >= 1 and num_workers >= 0, got {batch_size} and "
            f"{num_workers}"
        )
    if kept_training:
        raise ConfigError("keep_batches is for evaluation; set training=False")
