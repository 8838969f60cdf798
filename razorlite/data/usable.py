"""Whether a split has what training and evaluation need."""

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from torch import Tensor

from razorlite.core.distributed import is_main
from razorlite.core.errors import ConfigError, DataError
from razorlite.data._items import seeded
from razorlite.data.dataset import Dataset
from razorlite.data.faults import counted
from razorlite.data.joining import records_of
from razorlite.data.transforms.scaled_back import apply_watched, moved_by
from razorlite.structures import Target

_log = logging.getLogger(__name__)


def need_objects(dataset: Dataset, name: str) -> None:
    """Refuse a data set in which nothing counts, from which nothing is learnt or evaluated.

    Args:
        dataset: of detection or classification.
        name: for messages, such as "data.train".

    Raises:
        DataError: no image has an object that is no crowd; names what was left out and why.
    """
    if any(_count(dataset, index) for index in range(len(dataset))):
        return
    reasons = counted(dataset.left_out()) or "the annotations list no objects"
    first = f"; the first fault is {dataset.faults[0]}" if dataset.faults else ""
    raise DataError(
        f"{name}: none of its {len(dataset)} images has an object to learn from or to evaluate on "
        f"({reasons}{first}); mend the annotations, or name other ones or other classes"
    )


def need_in_place(dataset: Dataset, transforms: Sequence[Callable[..., Any]], name: str) -> None:
    """Refuse to evaluate detection on images that are cut or moved; tried on the largest image.

    Args:
        dataset: of detection, or of anything else, which passes.
        transforms: what images go through.
        name: of the split, such as "data.val".

    Raises:
        ConfigError: as described; names the transform.
    """
    records = records_of(dataset) or []
    largest = max(range(len(records)), key=lambda i: math.prod(records[i].size), default=0)
    with suppress(OSError), seeded(0):  # what cannot be read is told where it is wanted
        image, target = dataset[largest]
        if isinstance(image, Tensor) and isinstance(target, Target):
            culprit = apply_watched(transforms, image)[2]
            if culprit:
                raise ConfigError(moved_by(f"{culprit} of {name}"), key="transforms")


def tell_copies(dataset: Dataset, name: str) -> None:
    """Warn in a line that a data set to be evaluated has images more than once.

    Args:
        dataset: what metrics are to be reported on.
        name: for messages, such as "data.val".
    """
    copies = len(dataset) - len(set(dataset.keys))
    if copies and is_main():
        _log.warning(
            "%s has %d of its %d images more than once; each copy counts in the metrics",
            name, copies, len(dataset),
        )  # fmt: skip


def _count(dataset: Dataset, index: int) -> int:
    with suppress(OSError):
        return dataset.count(index)
    return 0
