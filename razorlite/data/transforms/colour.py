"""Colour, erasing, and any other transform of torchvision."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from razorlite.core.errors import ConfigError
from razorlite.core.registry import register, suggestion
from razorlite.data.transforms.base import (
    T,
    Transform,
    chance,
    check_prob,
    check_range,
    tidy,
    uniform,
)
from razorlite.structures import Target


@register()
class ColourJitter(Transform):
    """Change brightness, contrast, saturation and hue at random, in random order.

    Args:
        brightness, contrast, saturation: a factor is drawn from 1 - x to 1 + x.
        hue: greatest turn of the colour circle, to either side, at most 0.5 (slow above 0).
        prob: probability of changing the image at all.
    """

    def __init__(
        self,
        *,
        brightness: float = 0.2,
        contrast: float = 0.2,
        saturation: float = 0.2,
        hue: float = 0.0,
        prob: float = 1.0,
    ) -> None:
        if min(brightness, contrast, saturation, hue) < 0 or hue > 0.5:
            raise ConfigError("ColourJitter takes strengths of 0 or more and a hue of at most 0.5")
        self.prob = check_prob("ColourJitter.prob", prob)
        self._jitter = v2.ColorJitter(brightness, contrast, saturation, hue)

    def __call__(self, image: Tensor, target: T) -> tuple[Tensor, T]:
        return (self._jitter(image) if chance(self.prob) else image), target


@register()
class HSVJitter(Transform):
    """Add random amounts to hue, saturation and value, each in half of the images.

    YOLOX, https://arxiv.org/abs/2107.08430, and RTMDet; the defaults are theirs.

    Args:
        hue: greatest turn of the colour circle in degrees, to either side.
        saturation, value: greatest amount of 255, added or taken away.
        prob: probability, for each of the three, of changing it.
    """

    def __init__(
        self,
        *,
        hue: float = 10.0,
        saturation: float = 30.0,
        value: float = 30.0,
        prob: float = 0.5,
    ) -> None:
        self.deltas = (hue, saturation, value)
        if min(self.deltas) < 0 or hue > 180 or max(saturation, value) > 255:
            raise ConfigError(
                f"HSVJitter takes a hue of 0 to 180 degrees and saturation and value of 0 to 255, "
                f"got {hue:g}, {saturation:g} and {value:g}"
            )
        self.prob = check_prob("HSVJitter.prob", prob)

    def __call__(self, image: Tensor, target: T) -> tuple[Tensor, T]:
        added = [uniform(-d, d) if chance(self.prob) else 0.0 for d in self.deltas]
        return (shift_hsv(image, *added) if any(added) else image), target


def shift_hsv(image: Tensor, hue: float, saturation: float, value: float) -> Tensor:
    """Add to hue, saturation and value of each pixel; greys have the hue of red.

    Args:
        image: (3, H, W) uint8 RGB.
        hue: degrees of the colour circle.
        saturation, value: what is added; both stay within 0 to 255.
    """
    pixels = image.float()
    low, high = pixels.amin(dim=0), pixels.amax(dim=0)
    spread = high - low
    strength = (255 * spread / high.clamp(min=1) + saturation).clamp_(0, 255)
    tone = (pixels - low).div_(spread.clamp(min=1))  # each channel from least, 0, to greatest, 1
    tone[0].masked_fill_(spread == 0, 1.0)
    if hue:
        tone = _turned(tone, hue / 60)
    high = (high + value).clamp_(0, 255)
    spread = strength.mul_(high).div_(255)
    return tone.mul_(spread).add_(high - spread).round_().to(torch.uint8)


def _turned(tone: Tensor, sixths: float) -> Tensor:
    """Turn the colour circle of (3, H, W) channels, the least of which is 0 and the greatest 1."""
    red, green, blue = tone
    place = torch.where(green == 1, blue - red + 2, red - green + 4)
    place = torch.where(red == 1, green - blue, place).add_(sixths).remainder_(6)
    # trapezoids: a channel is full within a sixth of the circle and gone after two
    tones = [(place - 3).abs_().sub_(1), 2 - (place - 2).abs_(), 2 - (place - 4).abs_()]
    return torch.stack(tones).clamp_(0, 1)


@register()
class RandomErasing(Transform):
    """Blank a random rectangle of the image; boxes and labels stay.

    Args:
        prob: probability of erasing.
        scale: least and greatest part of the image's area.
        ratio: least and greatest ratio of the rectangle's sides.
        value: grey level from 0 to 255.

    https://arxiv.org/abs/1708.04896
    """

    def __init__(
        self,
        *,
        prob: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: int = 0,
    ) -> None:
        check_prob("RandomErasing.prob", prob)
        check_range("RandomErasing.scale", scale)
        check_range("RandomErasing.ratio", ratio)
        self._erase = v2.RandomErasing(prob, scale, ratio, value)

    def __call__(self, image: Tensor, target: T) -> tuple[Tensor, T]:
        return self._erase(image), target


@register()
class TorchvisionTransform(Transform):
    """Any transform of torchvision.transforms.v2 by its name, with boxes, labels and masks.

    Args:
        name: class in torchvision.transforms.v2, for instance RandomPhotometricDistort.
        arguments: its constructor's arguments.

    Raises:
        ConfigError: torchvision has no such transform, or refuses the arguments.
    """

    def __init__(self, *, name: str, arguments: dict[str, Any] | None = None) -> None:
        known = getattr(v2, name, None)
        if not (isinstance(known, type) and issubclass(known, v2.Transform)):
            hint = suggestion(name, dir(v2))
            raise ConfigError(f"torchvision.transforms.v2 has no transform {name!r}{hint}")
        try:
            self._transform = known(**(arguments or {}))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"torchvision refuses the arguments of {name}: {error}") from error

    def __call__(self, image: Tensor, target: T) -> tuple[Tensor, T]:
        if not isinstance(target, Target):
            return self._transform(image), target
        boxes = tv_tensors.BoundingBoxes(  # type: ignore[call-overload]
            target.boxes, format="XYXY", canvas_size=tuple(image.shape[-2:])
        )
        sample: dict[str, Any] = {"image": tv_tensors.Image(image), "boxes": boxes}
        if target.masks is not None:
            sample["masks"] = tv_tensors.Mask(target.masks)
        sample["labels"] = target.labels
        return _unwrap(self._transform(sample), target)


def _unwrap(sample: dict[str, Any], target: T) -> tuple[Tensor, T]:
    assert isinstance(target, Target)
    image = sample["image"].as_subclass(Tensor)
    masks = sample["masks"].as_subclass(Tensor) if "masks" in sample else None
    boxes = sample["boxes"].as_subclass(Tensor)
    if len(boxes) != len(target):
        raise ConfigError(
            "a torchvision transform removed boxes; razorlite drops empty boxes itself, "
            "so leave out SanitizeBoundingBoxes"
        )
    changed = replace(target, boxes=boxes, masks=masks, size=tuple(image.shape[-2:]))
    return image, tidy(changed)
