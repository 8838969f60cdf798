"""Data sets whose items come more than once in an epoch."""

import math
from collections import Counter
from typing import Any

import torch

from razorlite.core.ranges import Count, PositiveShare, Seed
from razorlite.core.registry import register
from razorlite.data.dataset import Dataset, Subset


class _Repeated(Subset):
    """Items of a data set, some of them several times; targets' `image_id` become the place."""

    def adapted(self, index: int, one: Any) -> Any:
        """Return an item's annotation, or its record, under its place."""
        return one.renumbered(index)

    def fill_cache(self) -> None:
        """Decode what the data set keeps in memory, before workers are started."""
        for index in sorted(set(self.indices)):
            self.dataset.keep_image(index)


@register()
class RepeatDataset(_Repeated):
    """A data set several times over, each time with random transforms of its own.

    Args:
        dataset: what to repeat.
        times: how often.

    Raises:
        ConfigError: `times` is below 1.
    """

    def __init__(self, *, dataset: Dataset, times: Count) -> None:
        super().__init__(dataset, list(range(len(dataset))) * times)


@register()
class ClassBalancedDataset(_Repeated):
    """Images of rare classes repeated, as LVIS is trained.

    A class in the share f(c) of the images has the factor r(c) = max(1, sqrt(threshold / f(c))); an
    image comes as often as the greatest factor of its classes says. The part of a factor behind
    the point is the probability of once more, drawn once from `seed`.
    https://arxiv.org/abs/1908.03195, appendix B.

    Args:
        dataset: what to repeat.
        threshold: share of the images below which a class is rare; LVIS takes 0.001.
        seed: of the rounding.

    Raises:
        ConfigError: the threshold is not above 0 and at most 1.
    """

    def __init__(
        self, *, dataset: Dataset, threshold: PositiveShare = 1e-3, seed: Seed = 0
    ) -> None:
        factors = repeat_factors(dataset, threshold)
        drawn = torch.rand(len(factors), generator=torch.Generator().manual_seed(seed)).tolist()
        times = [math.floor(factor + extra) for factor, extra in zip(factors, drawn, strict=True)]
        super().__init__(dataset, [i for i, count in enumerate(times) for _ in range(count)])


def repeat_factors(dataset: Dataset, threshold: float) -> list[float]:
    """Return how often each image shall come, 1 or more; see `ClassBalancedDataset`."""
    labels = [dataset.labels_of(index) for index in range(len(dataset))]
    counts = Counter(label for found in labels for label in found)
    classes = {
        label: max(1.0, math.sqrt(threshold * len(dataset) / count))
        for label, count in counts.items()
    }
    return [max((classes[label] for label in found), default=1.0) for found in labels]
