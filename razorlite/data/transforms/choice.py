"""One of several lists of transforms for each image, drawn at random."""

import torch
from torch import Tensor

from razorlite.core.errors import ConfigError
from razorlite.core.registry import register
from razorlite.data.transforms.base import T, Transform, apply_all
from razorlite.data.transforms.mixing import Mixing


@register()
class RandomChoice(Transform):
    """Put each image through one of several lists of transforms.

    Policies like AutoAugment's, https://arxiv.org/abs/1805.09501, and DETR's are of this kind.

    Args:
        choices: the lists; an empty one leaves the image as it is.
        weights: how often each is drawn, relative to each other; equally often by default.

    Raises:
        ConfigError: no lists, weights that do not fit them, or a transform that needs other images.
    """

    def __init__(
        self, *, choices: list[list[Transform]], weights: list[float] | None = None
    ) -> None:
        if not choices:
            raise ConfigError("RandomChoice.choices is empty; expected at least one list")
        self.choices, self.weights = choices, weights or [1.0] * len(choices)
        if len(self.weights) != len(choices) or min(self.weights) < 0 or sum(self.weights) <= 0:
            raise ConfigError(
                f"RandomChoice.weights are {len(choices)} numbers of 0 or more, one for each list "
                f"of choices, not all 0, got {weights}"
            )
        for transform in (transform for choice in choices for transform in choice):
            if isinstance(transform, Mixing):
                raise ConfigError(
                    f"RandomChoice cannot hold {type(transform).__name__}, which needs other "
                    f"images; list it directly under `transforms` and set its prob"
                )

    def __call__(self, image: Tensor, target: T) -> tuple[Tensor, T]:
        number = int(torch.multinomial(torch.tensor(self.weights, dtype=torch.float64), 1))
        return apply_all(self.choices[number], image, target)
