"""What a metric is."""

from abc import ABC, abstractmethod
from itertools import chain, zip_longest
from typing import Any

from razorlite.core import distributed
from razorlite.core.errors import DataError

_ABSENT: Any = object()


class Metric(ABC):
    """Judges predictions: `reset`, `update` with every batch, `compute`.

    Attributes:
        items: what is kept of each image, in the order of the images; plain picklable values.
    """

    def __init__(self) -> None:
        self.items: list[Any] = []

    def reset(self) -> None:
        """Forget all images."""
        self.items = []

    @abstractmethod
    def update(self, predictions: Any, targets: Any) -> None:
        """Take the predictions of a batch and what its images show."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Return the figures over all images since `reset`.

        Raises:
            DataError: there were no images.
        """

    def gather(self) -> None:
        """Give every process the images of all, in the order a single process has them."""
        if distributed.is_distributed():
            ranks = distributed.gather_objects(self.items)
            mixed = chain.from_iterable(zip_longest(*ranks, fillvalue=_ABSENT))
            self.items = [item for item in mixed if item is not _ABSENT]

    def need_items(self) -> list[Any]:
        """Return the images.

        Raises:
            DataError: there are none.
        """
        if not self.items:
            raise DataError(f"{type(self).__name__} got no images; evaluate at least one")
        return self.items


def class_names(classes: list[str] | None, highest: int) -> list[str]:
    """Return the names of the labels: `classes`, or numbers up to the highest label seen."""
    return list(classes) if classes else [str(label) for label in range(highest + 1)]
