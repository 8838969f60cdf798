"""Data sets one after the other."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from razorlite.core.errors import DataError
from razorlite.core.registry import register
from razorlite.data.dataset import Dataset, Subset
from razorlite.data.faults import Fault
from razorlite.data.records import Record, RecordDataset
from razorlite.data.relabelling import relabelled
from razorlite.structures import Batch, Inputs, as_annotation


@register()
class ConcatDataset(Dataset):
    """Several data sets of the same classes, one after the other.

    Labels are matched by name, in the order of the first data set's classes. Targets' `image_id`
    become the item's index, so that they stay unique.

    Raises:
        DataError: no data sets, or classes that differ.
    """

    def __init__(self, *, datasets: list[Dataset]) -> None:
        if not datasets:
            raise DataError("ConcatDataset got no data sets; expected at least one")
        self.datasets = datasets = [
            _same_classes(dataset, datasets[0], f"number {number}")
            for number, dataset in enumerate(datasets, start=1)
        ]
        self.classes = datasets[0].classes
        self.keys = [key for dataset in datasets for key in dataset.keys]
        self._positions = [(d, index) for d in datasets for index in range(len(d))]

    @property
    def faults(self) -> list[Fault]:
        """The faults of all parts."""
        return [fault for dataset in self.datasets for fault in dataset.faults]

    @property
    def names(self) -> list[str]:
        """What the items' images are called on any machine."""
        return [name for dataset in self.datasets for name in dataset.names]

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: int) -> tuple[Inputs, Any]:
        dataset, position = self._positions[index]
        inputs, target = dataset[position]
        return inputs, as_annotation(target).renumbered(index)

    def collate(self, items: Sequence[tuple[Inputs, Any]], pad_multiple: int) -> Batch:
        """Return items as one batch, as the first data set does."""
        return self.datasets[0].collate(items, pad_multiple)

    def labels_of(self, index: int) -> set[int]:
        """Return the labels of an item."""
        dataset, position = self._positions[index]
        return dataset.labels_of(position)

    def count(self, index: int) -> int:
        """Return how many objects of an item count."""
        dataset, position = self._positions[index]
        return dataset.count(position)

    def left_out(self) -> Counter[str]:
        """Return how many entries of all parts do not count, by reason."""
        return sum((dataset.left_out() for dataset in self.datasets), Counter())

    def annotation_bytes(self, index: int) -> bytes:
        """Return an item's annotation in some form."""
        dataset, position = self._positions[index]
        return dataset.annotation_bytes(position)

    def note(self, fault: Fault) -> None:
        """Take a fault met while training."""
        self.datasets[0].note(fault)

    def keep_image(self, index: int) -> None:
        """Decode one image and keep it, if its data set keeps images in memory."""
        dataset, position = self._positions[index]
        dataset.keep_image(position)


def _same_classes(dataset: Dataset, first: Dataset, name: str) -> Dataset:
    """Return a part with the first one's labels."""
    try:
        return relabelled(dataset, first.classes, name=name, reference="the first", complete=True)
    except DataError as error:
        raise DataError(f"ConcatDataset wants data sets of the same classes: {error}") from None


def records_of(dataset: Dataset) -> list[Record] | None:
    """Return the items' records, with their labels and ids; None of sets without boxes in files."""
    if isinstance(dataset, Subset):
        whole = records_of(dataset.dataset)
        places = enumerate(dataset.indices)
        return whole and [dataset.adapted(place, whole[index]) for place, index in places]
    if isinstance(dataset, ConcatDataset):
        parts = [records_of(part) for part in dataset.datasets]
        records = [record for part in parts for record in part or ()]
        return [r.renumbered(i) for i, r in enumerate(records)] if all(parts) else None
    return dataset.records if isinstance(dataset, RecordDataset) else None
