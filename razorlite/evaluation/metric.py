"""What a metric is."""

import copy
import logging
from abc import ABC, abstractmethod
from dataclasses import replace
from itertools import chain, zip_longest
from typing import Annotated, Any

import numpy as np
import torch

from razorlite.core import distributed
from razorlite.core.errors import ConfigError, DataError
from razorlite.core.ranges import Distinct, Filled
from razorlite.core.registry import suggestion
from razorlite.evaluation.resampling import Draws, Values
from razorlite.structures import Detections, Target, packed, unpacked

_ABSENT: Any = object()
_log = logging.getLogger(__name__)
ClassNames = Annotated[list[str], Filled(), Distinct()]


class Metric(ABC):
    """Evaluates predictions: `reset`, `update` with every batch, `compute`.

    Attributes:
        items: what is kept of each sample, in their order; values that pickle, tensors, records of
            tensors (see `razorlite.structures.Record`), or what has `pack` likewise.
    """

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._warned: set[str] = set()

    def reset(self) -> None:
        """Forget all images."""
        self.items = []

    @abstractmethod
    def update(self, predictions: Any, targets: Any) -> None:
        """Take the predictions of a batch and what its images show."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Return the metrics over all images since `reset`.

        Raises:
            DataError: there were no images.
        """

    def resampled(self, draws: Draws) -> dict[str, Values]:
        """Return the metrics on draws of images, see `image_draws`; NaN where one has no value.

        Args:
            draws: (B, images), how often each image counts.

        Returns:
            Names to (B,) values; maybe of the most important metrics alone.
        """
        found: list[dict[str, float]] = []
        for counts in draws:
            drawn = copy.copy(self)
            drawn.items = [self.items[i] for i in np.repeat(np.arange(len(counts)), counts)]
            found.append(drawn.compute())
        return {name: np.array([one[name] for one in found]) for name in found[0]}

    def value_names(self) -> list[str]:
        """Return the names of the metrics where they do not hang on the images, else nothing."""
        return []

    def gather(self) -> None:
        """Give every process the images of all, in the order a single process has them."""
        if distributed.is_distributed():
            ranks = unpacked(distributed.gather_objects(packed(self.items)))
            mixed = chain.from_iterable(zip_longest(*ranks, fillvalue=_ABSENT))
            self.items = [item for item in mixed if item is not _ABSENT]

    def tell(self, topic: str, line: str) -> None:
        """Say something to the user, however often the topic comes up only once."""
        if topic not in self._warned and distributed.is_main():
            self._warned.add(topic)
            _log.warning("%s", line)

    def need_items(self) -> list[Any]:
        """Return the images.

        Raises:
            DataError: there are none.
        """
        if not self.items:
            raise DataError(f"{type(self).__name__} got no images; evaluate at least one")
        return self.items


def need_value(metric: Metric, name: str | None, entry: str) -> None:
    """Refuse the name of a value that a metric does not give, as far as its names are known.

    Args:
        metric: what gives the values.
        name: the value; None for any.
        entry: where the configuration names it, such as "train.best_metric".

    Raises:
        ConfigError: there is no such value; suggests a near one.
    """
    known = metric.value_names()
    if name is not None and known and name not in known:
        raise ConfigError(
            f"{entry}: {name!r} is not among the metrics of {type(metric).__name__} "
            f"({', '.join(known)}){suggestion(name, known) or '; name one of them'}"
        )


def names_without_objects(metric: Metric) -> list[str]:
    """Return the names of a detection metric's values, from an image that shows nothing."""
    boxes, none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    masks = torch.zeros(0, 1, 1, dtype=torch.bool)
    probe = copy.copy(metric)
    probe.reset()
    probe.update(
        [Detections(boxes, torch.zeros(0), none, masks)],
        [Target(boxes, none, masks=masks, size=(1, 1), original_size=(1, 1))],
    )
    return list(probe.compute())


class Recorded(Metric):
    """Another metric, with all predictions and targets kept on the CPU, as (target, prediction).

    Args:
        metric: whose values are returned.
    """

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self.metric = metric

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self.metric.reset()

    def update(self, predictions: Any, targets: Any) -> None:
        """Take the predictions of a batch and what its images show."""
        self.metric.update(predictions, targets)
        self.items += [(_kept(t), _kept(p)) for t, p in zip(targets, predictions, strict=True)]

    def compute(self) -> dict[str, float]:
        """Return the metric's values."""
        return self.metric.compute()

    def gather(self) -> None:
        """Give every process the images of all."""
        super().gather()
        self.metric.gather()

    def value_names(self) -> list[str]:
        """Return the names of the metric's values."""
        return self.metric.value_names()


def _kept(value: Any) -> Any:
    """Return a sample's prediction or target without masks."""
    if isinstance(value, Target | Detections):
        value = replace(value, masks=None)
    if isinstance(value, Target):
        value = replace(value, original_masks=None)
    return value.to("cpu") if hasattr(value, "to") else value
