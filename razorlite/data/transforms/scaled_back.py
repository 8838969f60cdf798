"""Whether what is found in a transformed image can be scaled back to the image as it was."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from razorlite.structures import Target

_PROBE = (0.0, 0.0, 0.75, 0.625)  # x1, y1, x2, y2 in parts of the image, unlike any mirrored one
_NEAR = 0.05  # pixels


def apply_watched(
    transforms: Sequence[Callable[..., Any]], image: Tensor
) -> tuple[Tensor, Target, str]:
    """Put an image without objects through transforms, and watch where a box in it ends up.

    Args:
        transforms: applied in order.
        image: (3, H, W) uint8.

    Returns:
        The image, its target, and the name of the first transform after which boxes cannot be
        scaled back to the image as it was: one that cuts, mirrors or moves; "" if there is none.
    """
    height, width = image.shape[-2:]
    probe = torch.tensor([_PROBE]) * torch.tensor([width, height, width, height])
    label = torch.zeros(1, dtype=torch.int64)
    target = Target(probe, label, size=(height, width), original_size=(height, width))
    culprit = ""
    for transform in transforms:
        image, target = transform(image, target)
        back = target.original().boxes
        near = back.shape == probe.shape and torch.allclose(back, probe, rtol=0, atol=_NEAR)
        culprit = culprit or ("" if near else type(transform).__name__)
    return image, target[torch.zeros(len(target), dtype=torch.bool)], culprit


def moved_by(culprit: str) -> str:
    """Return what is wrong with a transform that `apply_watched` has named, and what to do."""
    return (
        f"{culprit} cuts, mirrors or moves images, so that boxes in them cannot be scaled back to "
        f"the whole image; detectors are evaluated and used with Resize, and Pad at the end"
    )
