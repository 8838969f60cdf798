"""Transforms that put other images of the epoch into an image: Mosaic and MixUp."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from razorlite.core.errors import ConfigError
from razorlite.core.registry import register
from razorlite.data.transforms.base import (
    T,
    Transform,
    chance,
    check_prob,
    check_range,
    check_size,
    geometric,
    randint,
    tidy,
    uniform,
)
from razorlite.data.transforms.crop import crop_at
from razorlite.data.transforms.geometry import Pad, Resize
from razorlite.structures import Target

Item = tuple[Tensor, Target]


class Mixing(Transform):
    """A transform that needs other images, which the loader draws from a bounded cache.

    Every item of an epoch enters the cache as it looks before this transform; when the cache is
    full, one leaves it. What it holds at an item follows from the epoch's order alone, so that
    workers, ranks and resuming change nothing; each worker keeps at most `cache_size` items in
    memory. RTMDet, https://arxiv.org/abs/2212.07784, section 3.5.

    Args:
        others: how many other images are drawn, with replacement.
        cache_size: items in the cache.
        random_pop: a random item leaves the full cache; otherwise the oldest.
        prob: probability of mixing at all.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(self, *, others: int, cache_size: int, random_pop: bool, prob: float) -> None:
        name = type(self).__name__
        if cache_size < 1:
            raise ConfigError(f"{name}.cache_size is 1 or more, got {cache_size}")
        self.others, self.cache_size, self.random_pop = others, cache_size, random_pop
        self.prob = check_prob(f"{name}.prob", prob)

    def __call__(self, image: Tensor, target: T) -> tuple[Tensor, T]:
        """Refuse: an image alone cannot be mixed.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"{type(self).__name__} needs other images, which only a loader gives it; list it "
            f"directly under `transforms`, not inside another transform"
        )

    def draw(self, held: Sequence[int]) -> list[int]:
        """Return which of the held items to mix in; none, where this image is left as it is."""
        if not chance(self.prob):
            return []
        return [held[randint(len(held))] for _ in range(self.others)]

    @abstractmethod
    def mix(self, image: Tensor, target: Target, others: Sequence[Item]) -> Item:
        """Return the (3, H, W) image with the others in it, and what it shows now."""


@register()
class CachedMosaic(Mixing):
    """Four images around a random point of a canvas twice as high and wide.

    Each is resized to fit `size` and touches the point with one corner; what lies beyond the
    canvas is cut off. Resizing to `size` before this transform keeps the cache small.
    YOLOv4, https://arxiv.org/abs/2004.10934.

    Args:
        size: (height, width) in pixels that each image fits in; the canvas has twice as much.
        centre: least and greatest place of the point, in parts of `size`.
        fill: grey level from 0 to 255 of uncovered pixels.
        cache_size: images to draw the other three from.
        random_pop: a random image leaves the full cache; otherwise the oldest.
        prob: probability of making a mosaic.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] = (640, 640),
        centre: tuple[float, float] = (0.5, 1.5),
        fill: int = 114,
        cache_size: int = 40,
        random_pop: bool = True,
        prob: float = 1.0,
    ) -> None:
        super().__init__(others=3, cache_size=cache_size, random_pop=random_pop, prob=prob)
        self.size = check_size("CachedMosaic.size", size)
        self.centre = check_range("CachedMosaic.centre", centre)
        if self.centre[1] > 2:
            raise ConfigError(f"CachedMosaic.centre ends at 2 at most, got {self.centre[1]}")
        self.fill = _check_grey("CachedMosaic", fill)
        self._fit = Resize(size=self.size)

    def mix(self, image: Tensor, target: Target, others: Sequence[Item]) -> Item:
        """Return the (3, H, W) mosaic: the image at the top left, the others right and below."""
        canvas = (2 * self.size[0], 2 * self.size[1])
        y, x = (int(uniform(*self.centre) * side) for side in self.size)
        mosaic = image.new_full((3, *canvas), self.fill)
        shown = []
        for number, (piece, seen) in enumerate([(image, target), *others]):
            piece, seen = self._fit(piece, seen)
            top = y - piece.shape[-2] if number < 2 else y
            left = x - piece.shape[-1] if number % 2 == 0 else x
            _paste(mosaic, piece, top, left)
            shown.append(_moved(seen, top, left, canvas))
        return mosaic, tidy(_joined(target, shown, canvas))


@register()
class CachedMixUp(Mixing):
    """The mean of two images; the objects of both count.

    The other image is resized to fit `size` and padded to it, scaled, perhaps mirrored, and cut or
    padded to this image's size. One without objects is not mixed in.
    https://arxiv.org/abs/1710.09412; for detection as in YOLOX, https://arxiv.org/abs/2107.08430.

    Args:
        size: (height, width) in pixels that the other image fits in.
        scale: least and greatest factor for the other image, once padded.
        flip: probability of mirroring the other image left to right.
        fill: grey level from 0 to 255 of its padding.
        cache_size: images to draw the other one from.
        random_pop: a random image leaves the full cache; otherwise the oldest.
        prob: probability of mixing.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] = (640, 640),
        scale: tuple[float, float] = (1.0, 1.0),
        flip: float = 0.5,
        fill: int = 114,
        cache_size: int = 20,
        random_pop: bool = True,
        prob: float = 1.0,
    ) -> None:
        super().__init__(others=1, cache_size=cache_size, random_pop=random_pop, prob=prob)
        self.size = check_size("CachedMixUp.size", size)
        self.scale = check_range("CachedMixUp.scale", scale)
        self.flip = check_prob("CachedMixUp.flip", flip)
        self.fill = _check_grey("CachedMixUp", fill)
        self._fit, self._pad = Resize(size=self.size), Pad(size=self.size, value=self.fill)

    def mix(self, image: Tensor, target: Target, others: Sequence[Item]) -> Item:
        """Return the (3, H, W) mean of the two images, of this image's size."""
        [(other, seen)] = others
        if len(seen) == 0:
            return image, target
        other, seen = self._fitted(other, seen, (image.shape[-2], image.shape[-1]))
        mean = image.to(torch.int16).add_(other).bitwise_right_shift_(1).to(torch.uint8)
        size = (image.shape[-2], image.shape[-1])
        return mean, _joined(target, [target, seen], size)

    def _fitted(self, image: Tensor, target: Target, size: tuple[int, int]) -> Item:
        """Return the other image as it is mixed in, of (height, width) `size`."""
        image, target = self._pad(*self._fit(image, target))
        factor = uniform(*self.scale)
        if factor != 1:
            new = [max(1, int(side * factor)) for side in self.size]
            how = {"antialias": True}
            image, target = geometric(functional.resize, image, target, for_image=how, size=new)
        if chance(self.flip):
            image, target = geometric(functional.horizontal_flip, image, target)
        image, target = Pad(size=size, value=self.fill)(image, target)
        top, left = (
            randint(has - wants + 1) for has, wants in zip(image.shape[-2:], size, strict=True)
        )
        image, target = crop_at(image, target, top, left, *size)
        return image, tidy(target)


def _check_grey(name: str, fill: int) -> int:
    if not 0 <= fill <= 255:
        raise ConfigError(f"{name}.fill is a grey level from 0 to 255, got {fill}")
    return fill


def _paste(canvas: Tensor, piece: Tensor, top: int, left: int) -> None:
    """Write a (…, h, w) piece onto a (…, H, W) canvas, as far as it lies on it."""
    y, x = max(0, -top), max(0, -left)
    place = canvas[..., max(0, top) :, max(0, left) :]
    height = max(0, min(piece.shape[-2] - y, place.shape[-2]))
    width = max(0, min(piece.shape[-1] - x, place.shape[-1]))
    place[..., :height, :width] = piece[..., y : y + height, x : x + width]


def _moved(target: Target, top: int, left: int, canvas: tuple[int, int]) -> Target:
    """Return a target of an image pasted onto a canvas; boxes are not clipped."""
    shift = target.boxes.new_tensor([left, top, left, top])
    masks = None
    if target.masks is not None:
        masks = target.masks.new_zeros((len(target), *canvas))
        _paste(masks, target.masks, top, left)
    return replace(target, boxes=target.boxes + shift, masks=masks)


def _joined(own: Target, parts: Sequence[Target], size: tuple[int, int]) -> Target:
    """Return one target with the objects of all; masks and areas only where all have them.

    No file shows the picture, so there are no original masks.
    """
    crowds = [
        torch.zeros_like(t.labels, dtype=torch.bool) if t.crowd is None else t.crowd for t in parts
    ]
    masks = [t.masks for t in parts if t.masks is not None]
    areas = [t.area for t in parts if t.area is not None]
    return replace(
        own,
        boxes=torch.cat([t.boxes for t in parts]),
        labels=torch.cat([t.labels for t in parts]),
        crowd=torch.cat(crowds),
        masks=torch.cat(masks) if len(masks) == len(parts) else None,
        area=torch.cat(areas) if len(areas) == len(parts) else None,
        size=size,
        original_masks=None,
    )
