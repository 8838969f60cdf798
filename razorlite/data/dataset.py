"""What every data set offers, and ways to cut one."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any, Generic, TypeVar

from razorlite.core.errors import DataError
from razorlite.core.ranges import Distinct, Filled
from razorlite.data._collating import collate_items
from razorlite.data.faults import Fault
from razorlite.structures import Batch, Inputs, as_annotation

K = TypeVar("K")
ClassNames = Annotated[list[str], Filled(), Distinct()]


class Dataset(ABC):
    """Samples and what they show, by index.

    Items are (inputs, annotation). Inputs are an image (3, H, W), uint8 RGB, or a mapping of
    tensors for models that take one: those whose names begin with "images" are images
    (…, 3, H, W), such as those of all cameras, and all else is given to the model as it is. The
    annotation is a `Target` in pixels of the image, a `Label` or int for classification, or an
    `Annotation` of one's own.

    Attributes:
        classes: names of the labels 0 to C - 1.
        keys: one string for each item, its image's absolute path where it has one; two splits
            share images exactly if they share keys.
        names: one string for each item that does not depend on where the data lie, such as the
            path relative to the data set's folder; `keys` by default.
        faults: what is wrong with the data and was left out.
    """

    classes: tuple[str, ...]
    keys: list[str]

    @property
    @abstractmethod
    def faults(self) -> list[Fault]:
        """What is wrong with the data and was left out."""

    @property
    def names(self) -> list[str]:
        """What the items' images are called on any machine."""
        return self.keys

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Inputs, Any]:
        """Return (inputs, annotation).

        Raises:
            OSError: the image cannot be read.
        """

    def labels_of(self, index: int) -> set[int]:
        """Return the labels of an item; data sets that know them do not read the image."""
        return as_annotation(self[index][1]).class_labels()

    def count(self, index: int) -> int:
        """Return how many objects of an item count: no crowds, 1 for a label.

        Data sets that know do not read the image.
        """
        return as_annotation(self[index][1]).objects()

    def collate(self, items: Sequence[tuple[Inputs, Any]], pad_multiple: int) -> Batch:
        """Return items, once they are transformed, as one batch on the CPU.

        Images get zeros at the right and bottom; other tensors are stacked. Called in a worker.

        Args:
            items: of one batch.
            pad_multiple: sides of the batch's images are multiples of it, in pixels.

        Raises:
            DataError: the items do not fit together.
        """
        return collate_items(items, pad_multiple)

    def left_out(self) -> Counter[str]:
        """Return how many entries of the annotations do not count, by reason."""
        return Counter(fault.kind for fault in self.faults)

    def annotation_bytes(self, index: int) -> bytes:
        """Return an item's annotation in some form; empty where it would cost reading an image."""
        return b""

    def note(self, fault: Fault) -> None:
        """Take a fault met while training.

        Raises:
            DataError: the data set is strict.
        """
        if fault not in self.faults:
            self.faults.append(fault)

    def keep_image(self, index: int) -> None:  # noqa: B027
        """Decode one image and keep it, if the data set keeps images in memory."""

    def fill_cache(self) -> None:
        """Decode what the data set keeps in memory, before workers are started."""
        for index in range(len(self)):
            self.keep_image(index)

    def subset(self, indices: Sequence[int]) -> "Subset":
        """Return the data set of some items, in the given order."""
        return Subset(self, indices)


class Subset(Dataset):
    """Some items of a data set; images kept in memory are shared with it."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = [int(index) for index in indices]
        wrong = [index for index in self.indices if not 0 <= index < len(dataset)]
        if wrong:
            raise DataError(f"no item {wrong[0]} in a data set of {len(dataset)}")
        self.classes = dataset.classes
        self.keys = [dataset.keys[index] for index in self.indices]

    @property
    def faults(self) -> list[Fault]:
        """The faults of the whole data set."""
        return self.dataset.faults

    @property
    def names(self) -> list[str]:
        """What the items' images are called on any machine."""
        names = self.dataset.names
        return [names[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Inputs, Any]:
        inputs, target = self.dataset[self.indices[index]]
        return inputs, self.adapted(index, as_annotation(target))

    def adapted(self, index: int, one: Any) -> Any:
        """Return an item's annotation, or its record, as it is here; `one` is the data set's."""
        return one

    def collate(self, items: Sequence[tuple[Inputs, Any]], pad_multiple: int) -> Batch:
        """Return items as one batch, as the data set itself does."""
        return self.dataset.collate(items, pad_multiple)

    def labels_of(self, index: int) -> set[int]:
        """Return the labels of an item."""
        return self.dataset.labels_of(self.indices[index])

    def count(self, index: int) -> int:
        """Return how many objects of an item count."""
        return self.dataset.count(self.indices[index])

    def left_out(self) -> Counter[str]:
        """Return how many entries of the whole data set do not count, by reason."""
        return self.dataset.left_out()

    def annotation_bytes(self, index: int) -> bytes:
        """Return an item's annotation in some form."""
        return self.dataset.annotation_bytes(self.indices[index])

    def note(self, fault: Fault) -> None:
        """Take a fault met while training."""
        self.dataset.note(fault)

    def keep_image(self, index: int) -> None:
        """Decode one image and keep it, if the data set keeps images in memory."""
        self.dataset.keep_image(self.indices[index])


class Kept(Generic[K]):
    """Things made once and kept in memory, if `enabled`; a new process starts with none."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._things: dict[int, K] = {}

    def get(self, index: int, make: Callable[[int], K]) -> K:
        """Return the thing of an index, made now unless it is kept."""
        if index in self._things:
            return self._things[index]
        thing = make(index)
        if self.enabled:
            self._things[index] = thing
        return thing

    def try_get(self, index: int, make: Callable[[int], K]) -> None:
        """Make and keep the thing of an index, unless it cannot be read."""
        if self.enabled:
            with suppress(OSError):  # met again, and reported, when the item is wanted
                self.get(index, make)

    def __getstate__(self) -> dict[str, Any]:
        return {"enabled": self.enabled, "_things": {}}
