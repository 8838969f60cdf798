"""Images scaled inside a model, which may be searched."""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.structures import Target
from razorlite.structures.frames import Frame

Size = tuple[int, int]
MULTIPLE = 32
"""Pixels that the sides of scaled images are multiples of, by default."""

_PARTS = 1024  # of 1, in which a factor is kept: whole numbers follow shapes that are traced


class ImageScale(nn.Module):
    """Images of another size.

    Args:
        factor: of height and width; 1 leaves images as they are.
        multiple: sides become multiples of so many pixels.
    """

    def __init__(self, factor: float, multiple: int = MULTIPLE) -> None:
        super().__init__()
        self.factor, self.multiple = factor, multiple

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 3, H', W')."""
        if self.factor == 1:
            return images
        size = self.size((images.shape[-2], images.shape[-1]))
        return F.interpolate(images, size=size, mode="bilinear")

    def size(self, size: Size) -> Size:
        """Return height and width of what becomes of images of (height, width) pixels."""
        if self.factor == 1:
            return size
        ratio, whole = round(self.factor * _PARTS), _PARTS * self.multiple
        height, width = ((side * ratio + whole // 2) // whole * self.multiple for side in size)
        return height, width

    def extra_repr(self) -> str:
        """Return what printing shows."""
        return f"{self.factor}, multiple={self.multiple}"


class Resizable(nn.Module):
    """A model whose images may be scaled first: by its child `resize`, where it has one."""

    def resized(self, images: Tensor) -> Tensor:
        """Return (N, 3, H, W) images as the backbone sees them, (N, 3, H', W')."""
        resize = self._modules.get("resize")
        return images if resize is None else resize(images)

    def resized_size(self, canvas: Size) -> Size:
        """Return height and width of what becomes of images of `canvas` pixels."""
        resize = self._modules.get("resize")
        return canvas if resize is None else resize.size(canvas)  # type: ignore[operator,no-any-return]

    def factors(self, canvas: Size) -> tuple[float, float]:
        """Return by what height and width of images of `canvas` pixels are multiplied."""
        if self._modules.get("resize") is None:
            return 1.0, 1.0
        height, width = self.resized_size(canvas)
        return height / canvas[0], width / canvas[1]

    def resized_sizes(self, sizes: Tensor, images: Tensor) -> Tensor:
        """Return (N, 2) heights and widths in pixels of the scaled (N, 3, H, W) images."""
        return sizes if "resize" not in self._modules else sizes * self._factors(images)

    def in_given_pixels(self, found: Sequence[Tensor], images: Tensor) -> tuple[Tensor, ...]:
        """Return what is found in scaled images in pixels of those that are given.

        Args:
            found: (N, K, 4) boxes, (N, K) scores, (N, K) labels, and (N, M, H', W') bool masks
                where there are any.
            images: (N, 3, H, W), as given.
        """
        if "resize" not in self._modules:
            return tuple(found)
        boxes, scores, labels, *masks = found
        canvas = (images.shape[-2], images.shape[-1])
        large = [F.interpolate(m.float(), size=canvas, mode="bilinear") >= 0.5 for m in masks]
        return boxes / self._factors(images)[[1, 0, 1, 0]], scores, labels, *large

    def _factors(self, images: Tensor) -> Tensor:
        """Return (2,) factors of height and width, a tensor that the graph of a file computes."""
        given = (images.shape[-2], images.shape[-1])
        pairs = zip(self.resized_size(given), given, strict=True)
        return torch.stack([_length(images, seen) / _length(images, side) for seen, side in pairs])

    def resized_targets(self, targets: list[Target], canvas: Size) -> list[Target]:
        """Return targets in pixels of the scaled images; `canvas` is the size of the batch."""
        y, x = self.factors(canvas)
        return targets if y == x == 1 else [_scaled(t, canvas, y, x) for t in targets]

    def resized_frames(self, frames: list[Frame], canvas: Size) -> list[Frame]:
        """Return where images lie in the scaled batch; `canvas` is the size of the batch."""
        y, x = self.factors(canvas)
        return [Frame(_times(frame.size, y, x), frame.original) for frame in frames]


def _length(like: Tensor, pixels: int) -> Tensor:
    return like.new_ones(pixels, dtype=torch.float32).sum()


def _scaled(target: Target, canvas: Size, y: float, x: float) -> Target:
    size = target.frame(canvas).size
    masks = target.masks
    if masks is not None and len(masks):
        shape = _times((masks.shape[-2], masks.shape[-1]), y, x)
        masks = F.interpolate(masks[None].float(), shape)[0] >= 0.5
    boxes = target.boxes * target.boxes.new_tensor([x, y, x, y])
    original = size if 0 in target.original_size else target.original_size
    return replace(
        target, boxes=boxes, masks=masks, size=_times(size, y, x), original_size=original
    )


def _times(size: Size, y: float, x: float) -> Size:
    return round(size[0] * y), round(size[1] * x)
