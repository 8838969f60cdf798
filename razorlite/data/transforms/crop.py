"""Cutting windows out of images; objects that leave the window are dropped."""

import math

import torch
from torch import Tensor
from torchvision.ops import box_iou
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
    uniform,
)
from razorlite.structures import Target

Window = tuple[int, int, int, int]  # top, left, height, width


def crop_at(
    image: Tensor, target: T, top: int, left: int, height: int, width: int
) -> tuple[Tensor, T]:
    """Cut a window out of a (3, H, W) image; boxes are moved alone (see `tidy`)."""
    return geometric(functional.crop, image, target, top=top, left=left, height=height, width=width)


@register()
class RandomCrop(Transform):
    """Cut a window of a fixed size at a random place; smaller images stay whole on that side.

    Args:
        size: (height, width) of the window in pixels.
        padding: pixels of black border added to each side first, as CIFAR training has it.
        min_visible: least part of a box that must stay for the object to be kept.
        allow_empty: take a window that loses all objects; otherwise the image is left whole after
            ten tries.
        prob: probability of cropping.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int],
        padding: int = 0,
        min_visible: float = 0.1,
        allow_empty: bool = False,
        prob: float = 1.0,
    ) -> None:
        self.size = check_size("RandomCrop.size", size)
        self.padding, self.allow_empty = padding, allow_empty
        self.min_visible = check_prob("RandomCrop.min_visible", min_visible)
        self.prob = check_prob("RandomCrop.prob", prob)

    def __call__(self, image: Tensor, target: T) -> tuple[Tensor, T]:
        if not chance(self.prob):
            return image, target
        if self.padding:
            image, target = geometric(functional.pad, image, target, padding=[self.padding])
        for _ in range(10):
            window = self._window((image.shape[-2], image.shape[-1]))
            if self.allow_empty or keeps_any(target, window, self.min_visible):
                return _cut(image, target, window, self.min_visible)
        return image, target

    def _window(self, size: Size) -> Window:
        height, width = min(self.size[0], size[0]), min(self.size[1], size[1])
        return randint(size[0] - height + 1), randint(size[1] - width + 1), height, width


@register()
class CenterCrop(Transform):
    """Cut a window of a fixed size from the middle, for testing classifiers.

    Args:
        size: (height, width) in pixels; smaller images stay whole on that side.
    """

    def __init__(self, *, size: tuple[int, int]) -> None:
        self.size = check_size("CenterCrop.size", size)

    @property
    def draws(self) -> bool:
        """Whether an image may look different each time; it does not."""
        return False

    def __call__(self, image: Tensor, target: T) -> tuple[Tensor, T]:
        height, width = (min(a, b) for a, b in zip(self.size, image.shape[-2:], strict=True))
        top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
        return _cut(image, target, (top, left, height, width), 0.0)


@register()
class RandomResizedCrop(Transform):
    """Cut a window of random area and ratio and resize it, as Inception trained.

    Args:
        size: (height, width) in pixels of the result.
        scale: least and greatest part of the image's area.
        ratio: least and greatest width : height.
        min_visible: least part of a box that must stay for the object to be kept.

    https://arxiv.org/abs/1409.4842
    """

    def __init__(
        self,
        *,
        size: tuple[int, int],
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (0.75, 1.3333333),
        min_visible: float = 0.1,
    ) -> None:
        self.size = check_size("RandomResizedCrop.size", size)
        self.scale = check_range("RandomResizedCrop.scale", scale)
        self.ratio = check_range("RandomResizedCrop.ratio", ratio)
        self.min_visible = check_prob("RandomResizedCrop.min_visible", min_visible)

    def __call__(self, image: Tensor, target: T) -> tuple[Tensor, T]:
        window = self._window(image.shape[-2], image.shape[-1])
        image, target = _cut(image, target, window, self.min_visible)
        how = {"antialias": True}
        return geometric(functional.resize, image, target, for_image=how, size=list(self.size))

    def _window(self, height: int, width: int) -> Window:
        for _ in range(10):
            area = height * width * uniform(*self.scale)
            ratio = math.exp(uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < h <= height and 0 < w <= width:
                return randint(height - h + 1), randint(width - w + 1), h, w
        side = min(height, width)
        return (height - side) // 2, (width - side) // 2, side, side


@register()
class RandomSizeCrop(Transform):
    """Cut a window of random height and width at a random place, as DETR trained.

    Args:
        least, greatest: pixels of each side, drawn independently; smaller images stay whole on
            that side.
        min_visible: least part of a box that must stay for the object to be kept.

    https://arxiv.org/abs/2005.12872, appendix A.4
    """

    def __init__(self, *, least: int = 384, greatest: int = 600, min_visible: float = 0.0) -> None:
        if not 1 <= least <= greatest:
            raise ConfigError(
                f"RandomSizeCrop takes 1 <= least <= greatest, got {least} and {greatest}"
            )
        self.least, self.greatest = least, greatest
        self.min_visible = check_prob("RandomSizeCrop.min_visible", min_visible)

    def __call__(self, image: Tensor, target: T) -> tuple[Tensor, T]:
        sides = [self._side(side) for side in image.shape[-2:]]
        top, left = (
            randint(has - side + 1) for has, side in zip(image.shape[-2:], sides, strict=True)
        )
        return _cut(image, target, (top, left, sides[0], sides[1]), self.min_visible)

    def _side(self, has: int) -> int:
        low, high = min(has, self.least), min(has, self.greatest)
        return low + randint(high - low + 1)


@register()
class RandomIoUCrop(Transform):
    """Cut a window that overlaps some object by at least a randomly drawn IoU, as SSD trained.

    Objects stay whose centre lies in the window.

    Args:
        thresholds: least IoUs to draw from; 1.0 or more stands for the whole image.
        min_scale: least part of each side.
        ratio: least and greatest width : height.
        trials: windows tried for a threshold before another is drawn.

    https://arxiv.org/abs/1512.02325
    """

    def __init__(
        self,
        *,
        thresholds: list[float] | None = None,
        min_scale: float = 0.3,
        ratio: tuple[float, float] = (0.5, 2.0),
        trials: int = 40,
    ) -> None:
        self.thresholds = thresholds or [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]
        if not 0 < min_scale <= 1:
            raise ConfigError(f"RandomIoUCrop.min_scale is above 0 and at most 1, got {min_scale}")
        self.ratio, self.min_scale = check_range("RandomIoUCrop.ratio", ratio), min_scale
        self.trials = trials

    def __call__(self, image: Tensor, target: T) -> tuple[Tensor, T]:
        if not isinstance(target, Target) or len(target) == 0:
            return image, target
        for _ in range(50):
            least = self.thresholds[randint(len(self.thresholds))]
            if least >= 1:
                return image, target
            window = self._window(target, (image.shape[-2], image.shape[-1]), least)
            if window is not None:
                inside = _centres_inside(target.boxes, window)
                cut, moved = crop_at(image, target, *window)
                return cut, tidy(moved, keep=inside)
        return image, target

    def _window(self, target: Target, size: Size, least: float) -> Window | None:
        for _ in range(self.trials):
            height = round(size[0] * uniform(self.min_scale, 1.0))
            width = round(size[1] * uniform(self.min_scale, 1.0))
            if not (height and width and self.ratio[0] <= width / height <= self.ratio[1]):
                continue
            window = randint(size[0] - height + 1), randint(size[1] - width + 1), height, width
            inside = target.boxes[_centres_inside(target.boxes, window)]
            if len(inside) and float(box_iou(inside, _as_box(window)).max()) >= least:
                return window
        return None


def _cut(image: Tensor, target: T, window: Window, min_visible: float) -> tuple[Tensor, T]:
    keep = _visible(target, window) >= min_visible if isinstance(target, Target) else None
    cut, moved = crop_at(image, target, *window)
    return cut, tidy(moved, keep=keep)


def keeps_any(target: object, window: Window, min_visible: float) -> bool:
    """Return whether a window keeps some object, or there is none to lose."""
    if not isinstance(target, Target) or len(target) == 0:
        return True
    return bool((_visible(target, window) >= max(min_visible, 1e-6)).any())


def _visible(target: Target, window: Window) -> Tensor:
    """Return the part of each box's area that lies in a window."""
    top, left, height, width = window
    shift = target.boxes.new_tensor([left, top, left, top])
    inside = clip_boxes(target.boxes - shift, (height, width))
    area = (target.boxes[:, 2:] - target.boxes[:, :2]).prod(dim=1)
    return (inside[:, 2:] - inside[:, :2]).prod(dim=1) / area.clamp(min=1e-9)


def _centres_inside(boxes: Tensor, window: Window) -> Tensor:
    x, y = (boxes[:, :2] + boxes[:, 2:]).mul(0.5).unbind(1)
    left, top, right, bottom = _as_box(window)[0].tolist()
    inside: Tensor = (x > left) & (x < right) & (y > top) & (y < bottom)
    return inside


def _as_box(window: Window) -> Tensor:
    top, left, height, width = window
    return torch.tensor([[left, top, left + width, top + height]], dtype=torch.float32)
