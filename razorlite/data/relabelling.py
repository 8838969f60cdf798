"""Labels by name: a data set in the order of classes that another one has."""

from collections.abc import Sequence
from typing import Any

import torch

from razorlite.core.errors import DataError
from razorlite.core.registry import suggestion
from razorlite.data.dataset import Dataset, Subset

_SHOWN = 20  # names of a list that messages show


class Relabelled(Subset):
    """A data set whose labels are places in another list of classes.

    Args:
        dataset: what to relabel.
        classes: names in the order of the new labels, with all that the data set has objects of.
    """

    def __init__(self, dataset: Dataset, classes: Sequence[str]) -> None:
        super().__init__(dataset, range(len(dataset)))
        self.classes = tuple(classes)
        places = {name: label for label, name in enumerate(classes)}
        self._new = torch.tensor([places.get(name, -1) for name in dataset.classes])

    def adapted(self, index: int, one: Any) -> Any:
        """Return an item's annotation, or its record, with the new labels."""
        return one.relabelled(self._new)

    def labels_of(self, index: int) -> set[int]:
        """Return the labels of an item."""
        return {int(self._new[label]) for label in super().labels_of(index)}

    def annotation_bytes(self, index: int) -> bytes:
        """Return an item's annotation in some form."""
        return self._new.numpy().tobytes() + super().annotation_bytes(index)

    def fill_cache(self) -> None:
        """Decode what the data set keeps in memory, before workers are started."""
        self.dataset.fill_cache()


def relabelled(
    dataset: Dataset,
    classes: Sequence[str],
    *,
    name: str = "the data set",
    reference: str = "the training data",
    complete: bool = False,
) -> Dataset:
    """Return a data set with the labels that a list of classes gives to its names.

    Classes that no object has are left out where the list lacks them.

    Args:
        dataset: returned as it is where its classes are the list.
        classes: names in the order of the labels.
        name: of the data set, for messages.
        reference: whose list it is, for messages.
        complete: the data set must have every class of the list.

    Raises:
        DataError: it has objects of other classes, or lacks some; names both lists.
    """
    if tuple(dataset.classes) == tuple(classes):
        return dataset
    extra = [] if set(dataset.classes) <= set(classes) else used_classes(dataset)
    extra = [name for name in extra if name not in classes]
    missing = [name for name in classes if complete and name not in dataset.classes]
    if extra or missing:
        raise DataError(_difference(dataset.classes, classes, name, reference, extra, missing))
    return Relabelled(dataset, classes)


def used_classes(dataset: Dataset) -> list[str]:
    """Return the names of the classes that objects have, in the order of the labels."""
    used = {label for index in range(len(dataset)) for label in dataset.labels_of(index)}
    return [name for label, name in enumerate(dataset.classes) if label in used]


def name_list(names: Sequence[str]) -> str:
    """Return a list of names for a message; of a long one the beginning."""
    if len(names) <= _SHOWN:
        return str(list(names))
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return f"[{shown}, … {len(names)} names]"


def _difference(
    own: Sequence[str],
    expected: Sequence[str],
    name: str,
    reference: str,
    extra: Sequence[str],
    missing: Sequence[str],
) -> str:
    parts = [
        f"has objects of {name_list(extra)}, which {reference} lacks" if extra else "",
        f"lacks {name_list(missing)}, which {reference} has" if missing else "",
    ]
    odd = extra[0] if extra else missing[0]
    hint = suggestion(odd, expected if extra else own)
    return (
        f"{name} {' and '.join(filter(None, parts))}{hint}: {name_list(own)} against "
        f"{name_list(expected)}; give both the same names, or leave classes out by the data set's "
        f"`classes`"
    )
