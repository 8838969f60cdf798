"""Test-time augmentation: an image is looked at in several ways, and what is found is merged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from razorlite.core.ranges import Positive, checked
from razorlite.data.transforms.base import geometric
from razorlite.ops.nms import suppress
from razorlite.structures import Detections, Target

_OVERLAP = 0.6  # IoU above which two boxes of a class are one object


@checked
@dataclass(frozen=True)
class View:
    """One way to look at an image.

    Attributes:
        scale: factor of height and width, after the model's own transforms.
        flip: mirror left and right.
    """

    scale: Positive = 1.0
    flip: bool = False

    def seen(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        """Return an image (3, H, W) and its target as this view has them; boxes stay unflipped."""
        if self.scale != 1.0:
            size = [max(1, round(side * self.scale)) for side in image.shape[-2:]]
            how = {"antialias": True}
            image, target = geometric(functional.resize, image, target, for_image=how, size=size)
        return (image.flip(-1), target) if self.flip else (image, target)

    def back(self, found: Detections, width: int) -> Detections:
        """Return what was found as it lies in the original image, `width` pixels wide."""
        if not self.flip:
            return found
        x1, y1, x2, y2 = found.boxes.unbind(1)
        boxes = torch.stack([width - x2, y1, width - x1, y2], dim=1)
        masks = None if found.masks is None else found.masks.flip(-1)
        return replace(found, boxes=boxes, masks=masks)


PLAIN = (View(),)
AUGMENTED = tuple(View(scale, flip) for scale in (1.0, 0.8, 1.25) for flip in (False, True))


def merged(views: Sequence[Detections]) -> Detections:
    """Return the detections of several views of one image, each object once, best first.

    Of boxes of a class that overlap by an IoU above 0.6 the one with the highest score stays. There
    are at most as many as the fullest view has.
    """
    if len(views) == 1:
        return views[0]
    some = all(found.masks is not None for found in views)
    every = Detections(
        torch.cat([found.boxes for found in views]),
        torch.cat([found.scores for found in views]),
        torch.cat([found.labels for found in views]),
        torch.cat([found.masks for found in views if found.masks is not None]) if some else None,
    )
    limit = max(len(found) for found in views)
    return every[suppress(every.boxes, every.scores, every.labels, _OVERLAP, limit)]
