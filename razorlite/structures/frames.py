"""Where images lie in a batch."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """Where an image lies in a batch, from the upper left corner on, and how large it was before.

    Attributes:
        size: (height, width) inside the batch, without padding.
        original: (height, width) to which what is found in it is scaled.
    """

    size: tuple[int, int]
    original: tuple[int, int]

    def to_original(self, boxes: Tensor) -> Tensor:
        """Return (N, 4) boxes of the batch in pixels of the original image, clipped to it."""
        height, width = self.original
        y, x = height / self.size[0], width / self.size[1]
        limits = boxes.new_tensor([width, height, width, height])
        return torch.minimum((boxes * boxes.new_tensor([x, y, x, y])).clamp(min=0), limits)
