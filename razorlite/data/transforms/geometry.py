"""Resize, flip, pad, scale and turn."""

from dataclasses import replace
from typing import Any, Literal, cast

from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from razorlite.core.errors import ConfigError
from razorlite.core.registry import register
from razorlite.data.transforms.base import (
    Size,
    T,
    Transform,
    chance,
    check_prob,
    check_range,
    check_size,
    clip_boxes,
    geometric,
    randint,
    tidy,
    tightened,
    uniform,
)
from razorlite.data.transforms.crop import Window, crop_at, keeps_any
from razorlite.structures import Target

_MOST_PIXELS = 64_000_000  # that an image may be enlarged to
Mode = Literal["bilinear", "bicubic", "nearest"]


@register()
class Resize(Transform):
    """Resize the image, its boxes and masks, with antialiasing.

    Give either `size`, or `short` with or without `long`.

    Args:
        size: (height, width) in pixels.
        keep_ratio: with `size`: fit inside it and keep height : width; else stretch to it.
        short: pixels of the shorter side; of several, one is drawn for each image.
        long: greatest pixels of the longer side, which may make the shorter side shorter.
        scales: factors, one of which is drawn for each image and multiplies the result.
        mode: interpolation of the image; masks take the nearest pixel.

    Raises:
        ConfigError: neither or both of `size` and `short` are given, or a value is not positive.
        OSError: when called, of an image so long and narrow that it would become huge; loaders
            leave it out and name it.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] | None = None,
        keep_ratio: bool = True,
        short: int | list[int] | None = None,
        long: int | None = None,
        scales: list[float] | None = None,
        mode: Mode = "bilinear",
    ) -> None:
        self.shorts = [short] if isinstance(short, int) else list(short or [])
        if (size is None) == (not self.shorts):
            raise ConfigError(f"Resize takes either size or short, got size={size}, short={short}")
        self.size = None if size is None else check_size("Resize.size", size)
        self.scales = list(scales or [1.0])
        if min([*self.shorts, *self.scales, 1 if long is None else long]) <= 0:
            raise ConfigError("Resize takes short, long and scales above 0")
        self.keep_ratio, self.long, self.mode = keep_ratio, long, InterpolationMode(mode)

    @property
    def draws(self) -> bool:
        """Whether an image may look different each time: where sizes are drawn."""
        return len(self.shorts) > 1 or len(self.scales) > 1

    def __call__(self, image: Tensor, target: T) -> tuple[Tensor, T]:
        height, width = self._new_size(image.shape[-2], image.shape[-1])
        if (height, width) == tuple(image.shape[-2:]):
            return image, target
        how = {"interpolation": self.mode, "antialias": True}
        return geometric(functional.resize, image, target, for_image=how, size=[height, width])

    def _new_size(self, height: int, width: int) -> Size:
        scale = self.scales[randint(len(self.scales))] if len(self.scales) > 1 else self.scales[0]
        if self.size is not None and not self.keep_ratio:
            return _at_least_one(self.size[0] * scale, self.size[1] * scale)
        factor = self._factor(height, width) * scale
        new = _at_least_one(height * factor, width * factor)
        if new[0] * new[1] > max(_MOST_PIXELS, 4 * height * width):
            raise OSError(
                f"Resize would make {new[1]} x {new[0]} of {width} x {height} pixels; leave the "
                f"image out, or set Resize.long"
            )
        return new

    def _factor(self, height: int, width: int) -> float:
        if self.size is not None:
            return min(self.size[0] / height, self.size[1] / width)
        short = self.shorts[randint(len(self.shorts))] if len(self.shorts) > 1 else self.shorts[0]
        factor = short / min(height, width)
        return factor if self.long is None else min(factor, self.long / max(height, width))


@register()
class RandomFlip(Transform):
    """Mirror left to right and top to bottom, independently.

    Args:
        horizontal: probability of mirroring left to right.
        vertical: probability of mirroring top to bottom.
    """

    def __init__(self, *, horizontal: float = 0.5, vertical: float = 0.0) -> None:
        self.horizontal = check_prob("RandomFlip.horizontal", horizontal)
        self.vertical = check_prob("RandomFlip.vertical", vertical)

    def __call__(self, image: Tensor, target: T) -> tuple[Tensor, T]:
        if chance(self.horizontal):
            image, target = geometric(functional.horizontal_flip, image, target)
        if chance(self.vertical):
            image, target = geometric(functional.vertical_flip, image, target)
        return image, target


@register()
class Pad(Transform):
    """Add pixels at the right and bottom; boxes and `Target.size` stay as they are.

    Unlike the zeros that the loader adds to make a batch, these pixels are normalised as part of
    the image.

    Args:
        size: least (height, width) after padding.
        multiple: pad both sides up to a multiple of this many pixels.
        value: grey level from 0 to 255 of the added pixels.
    """

    def __init__(
        self, *, size: tuple[int, int] | None = None, multiple: int = 1, value: int = 0
    ) -> None:
        if multiple < 1 or not 0 <= value <= 255:
            raise ConfigError(f"Pad takes multiple >= 1 and value 0-255, got {multiple}, {value}")
        self.size = (1, 1) if size is None else check_size("Pad.size", size)
        self.multiple, self.value = multiple, value

    @property
    def draws(self) -> bool:
        """Whether an image may look different each time; it does not."""
        return False

    def __call__(self, image: Tensor, target: T) -> tuple[Tensor, T]:
        before = tuple(image.shape[-2:])
        height, width = (
            -(-max(side, least) // self.multiple) * self.multiple
            for side, least in zip(before, self.size, strict=True)
        )
        if (height, width) == before:
            return image, target
        added = [0, 0, width - before[1], height - before[0]]
        padded, moved = geometric(
            functional.pad, image, target, for_image={"fill": self.value}, padding=added
        )
        return padded, _with_size(moved, target)


@register()
class ScaleJitter(Transform):
    """Resize by a random factor, then cut a random window of at most `size`.

    Large-scale jittering, https://arxiv.org/abs/2012.07177, with `scale` (0.1, 2.0); the standard
    kind has (0.8, 1.25). Smaller images stay so: the loader pads them, or `Pad` does.

    Args:
        size: (height, width) of the window in pixels.
        fit: (height, width) in pixels that an image fits in at a factor of 1; `size` by default.
            The ratio of its sides is kept.
        scale: least and greatest factor.
        allow_empty: take a window that loses all objects; otherwise up to ten are tried.
        tight: with masks, boxes become those around what is left of the masks.
        mode: interpolation of the image.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int],
        fit: tuple[int, int] | None = None,
        scale: tuple[float, float] = (0.1, 2.0),
        allow_empty: bool = True,
        tight: bool = False,
        mode: Mode = "bilinear",
    ) -> None:
        self.size = check_size("ScaleJitter.size", size)
        self.fit = self.size if fit is None else check_size("ScaleJitter.fit", fit)
        self.scale = check_range("ScaleJitter.scale", scale)
        self.allow_empty, self.tight = allow_empty, tight
        self.mode = InterpolationMode(mode)

    def __call__(self, image: Tensor, target: T) -> tuple[Tensor, T]:
        height, width = image.shape[-2:]
        factor = min(self.fit[0] / height, self.fit[1] / width) * uniform(*self.scale)
        new = _at_least_one(height * factor, width * factor)
        result = [min(self.size[0], new[0]), min(self.size[1], new[1])]
        # cut before resizing: the same picture, and nothing is resized that is then thrown away
        window = self._window(target, (height, width), (result[0] / new[0], result[1] / new[1]))
        image, target = crop_at(image, target, *window)
        how = {"interpolation": self.mode, "antialias": True}
        image, target = geometric(functional.resize, image, target, for_image=how, size=result)
        return image, tidy(tightened(target) if self.tight else target)

    def _window(self, target: object, size: Size, part: tuple[float, float]) -> Window:
        """Return a random window of a part of an image's height and width."""
        height, width = _at_least_one(size[0] * part[0], size[1] * part[1])
        for _ in range(1 if self.allow_empty else 10):
            window = randint(size[0] - height + 1), randint(size[1] - width + 1), height, width
            if keeps_any(target, window, 0.0):
                break
        return window


@register()
class RandomAffine(Transform):
    """Turn, shift, scale and shear; the image keeps its size.

    Boxes become the upright boxes around the turned ones; those with too little left are dropped.

    Args:
        degrees: greatest angle, to either side.
        translate: greatest shift, to either side, as a part of width and height.
        scale: least and greatest factor.
        shear: greatest shearing angle along x in degrees, to either side.
        fill: grey level from 0 to 255 of uncovered pixels.
        min_visible: least part of a box that must stay in the image.
    """

    def __init__(
        self,
        *,
        degrees: float = 0.0,
        translate: float = 0.1,
        scale: tuple[float, float] = (0.8, 1.25),
        shear: float = 0.0,
        fill: int = 114,
        min_visible: float = 0.2,
    ) -> None:
        self.degrees, self.translate, self.shear = degrees, translate, shear
        self.scale = check_range("RandomAffine.scale", scale)
        self.fill, self.min_visible = fill, check_prob("RandomAffine.min_visible", min_visible)

    def __call__(self, image: Tensor, target: T) -> tuple[Tensor, T]:
        height, width = image.shape[-2:]
        how = {
            "angle": uniform(-self.degrees, self.degrees),
            "translate": [uniform(-1, 1) * self.translate * side for side in (width, height)],
            "scale": uniform(*self.scale),
            "shear": [uniform(-self.shear, self.shear), 0.0],
        }
        fill = {"fill": [float(self.fill)] * 3, "interpolation": InterpolationMode.BILINEAR}
        changed, moved = geometric(functional.affine, image, target, for_image=fill, **how)
        if not (isinstance(target, Target) and isinstance(moved, Target)):
            return changed, target
        moved = replace(moved, boxes=_affine_boxes(target.boxes, (height, width), how))
        inside = _areas(clip_boxes(moved.boxes, moved.size))
        return changed, cast(T, tidy(moved, keep=inside >= self.min_visible * _areas(moved.boxes)))


def _affine_boxes(boxes: Tensor, size: Size, how: dict[str, Any]) -> Tensor:
    """Return the upright boxes around the changed ones, reaching beyond the image where they do.

    torchvision clips to the canvas, so the boxes are put in the middle of one that is larger.
    """
    margin = 8 * max(size)
    canvas = (size[0] + 2 * margin, size[1] + 2 * margin)
    placed = tv_tensors.BoundingBoxes(boxes + margin, format="XYXY", canvas_size=canvas)  # type: ignore[call-overload]
    moved: Tensor = functional.affine(placed, **how).as_subclass(Tensor) - margin
    return moved


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)


def _with_size(target: T, like: T) -> T:
    if isinstance(target, Target) and isinstance(like, Target):
        return replace(target, size=like.size)
    return target


def _at_least_one(height: float, width: float) -> Size:
    return max(1, round(height)), max(1, round(width))
