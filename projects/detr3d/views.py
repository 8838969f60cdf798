"""Transforms of all cameras' images, their matrices, and the boxes around the car, in step."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional

from projects.detr3d.boxes import wrapped
from projects.detr3d.records import Objects
from razorlite.core.errors import ConfigError, DataError
from razorlite.core.ranges import NonNegative, Share, Size, Whole
from razorlite.core.registry import register
from razorlite.data import Transform
from razorlite.data.transforms.base import chance, randint, uniform

Inputs = dict[str, Tensor]
Place = Literal["top", "bottom", "center", "random"]


def _moved(inputs: Any, images: Tensor, change: list[list[float]]) -> Inputs:
    """Return inputs with other images, whose pixels are `change` (3, 3) times the old ones."""
    whole = torch.eye(4)
    whole[:3, :3] = torch.tensor(change)
    return {**inputs, "images": images, "lidar2img": whole @ inputs["lidar2img"]}


def _size(inputs: Any) -> tuple[int, int]:
    if "images" not in inputs or "lidar2img" not in inputs:
        raise DataError(f"transforms of views want images and lidar2img, got {', '.join(inputs)}")
    return inputs["images"].shape[-2], inputs["images"].shape[-1]


@register()
class ResizeViews(Transform):
    """Scales the images of all cameras.

    Args:
        size: (height, width) in pixels.
    """

    def __init__(self, *, size: Size) -> None:
        self.size = tuple(size)

    def __call__(self, inputs: Any, target: Any) -> tuple[Any, Any]:
        height, width = _size(inputs)
        images = functional.resize(inputs["images"], list(self.size), antialias=True)
        y, x = self.size[0] / height, self.size[1] / width
        return _moved(inputs, images, [[x, 0, 0], [0, y, 0], [0, 0, 1]]), target


@register()
class CropViews(Transform):
    """Cuts the same window out of the images of all cameras.

    Args:
        size: (height, width) in pixels.
        place: where in the height it lies; the middle of the width is taken, but for "random".
    """

    def __init__(self, *, size: Size, place: Place = "bottom") -> None:
        self.size, self.place = tuple(size), place

    def __call__(self, inputs: Any, target: Any) -> tuple[Any, Any]:
        whole = _size(inputs)
        free = [side - own for side, own in zip(whole, self.size, strict=True)]
        if min(free) < 0:
            raise ConfigError(
                f"CropViews.size {list(self.size)} is larger than the images, {list(whole)}; "
                f"resize them first, or cut out less"
            )
        top, left = self._corner(*free)
        images = inputs["images"][..., top : top + self.size[0], left : left + self.size[1]]
        return _moved(inputs, images, [[1, 0, -left], [0, 1, -top], [0, 0, 1]]), target

    def _corner(self, below: int, right: int) -> tuple[int, int]:
        if self.place == "random":
            return randint(below + 1), randint(right + 1)
        return {"top": 0, "bottom": below, "center": below // 2}[self.place], right // 2


@register()
class FlipViews(Transform):
    """Mirrors the images of all cameras, left to right; the matrices follow, the world stays.

    Args:
        prob: probability of doing so.
    """

    def __init__(self, *, prob: Share = 0.5) -> None:
        self.prob = prob

    def __call__(self, inputs: Any, target: Any) -> tuple[Any, Any]:
        width = _size(inputs)[1]
        if not chance(self.prob):
            return dict(inputs), target
        images = inputs["images"].flip(-1)
        return _moved(inputs, images, [[-1, 0, width], [0, 1, 0], [0, 0, 1]]), target


@register()
class PadViews(Transform):
    """Puts zeros below and to the right of the images; matrices stay.

    Args:
        multiple: sides become multiples of it, in pixels.
    """

    def __init__(self, *, multiple: int = 32) -> None:
        self.multiple = multiple

    def __call__(self, inputs: Any, target: Any) -> tuple[Any, Any]:
        below, right = (-side % self.multiple for side in _size(inputs))
        return {**inputs, "images": F.pad(inputs["images"], (0, right, 0, below))}, target


@register()
class KeepObjects(Transform):
    """Leaves out the objects that nothing can be learnt of, and brings yaw to -pi to pi.

    Args:
        space: least x, y and greatest x, y of centres in metres, both excluded; any by default.
        lidar_points: least number of the lidar's points in a box.
    """

    def __init__(
        self,
        *,
        space: tuple[float, float, float, float] | None = (-51.2, -51.2, 51.2, 51.2),
        lidar_points: Whole = 1,
    ) -> None:
        self.space, self.lidar_points = space, lidar_points

    def __call__(self, inputs: Any, target: Any) -> tuple[Any, Any]:
        assert isinstance(target, Objects)
        boxes = target.boxes.clone()
        boxes[:, 6] = wrapped(boxes[:, 6])
        keep = target.points[:, 0] >= self.lidar_points
        if self.space is not None:
            low, high = boxes.new_tensor(self.space).chunk(2)
            keep &= ((boxes[:, :2] > low) & (boxes[:, :2] < high)).all(1)
        return inputs, target.with_boxes(boxes)[keep]


@register()
class PhotometricDistortion(Transform):
    """Changes light and colours of each camera's image on its own, each change in half of them.

    Brightness, contrast (before or after the colours), saturation, hue, and the order of the
    channels. SSD, https://arxiv.org/abs/1512.02325, section 2.2; the defaults are its own.

    Args:
        brightness: greatest amount of 255 that is added or taken away.
        contrast: least and greatest factor of pixels.
        saturation: least and greatest factor of the distance from grey.
        hue: greatest turn of the colour circle in degrees, to either side.
        swap: whether channels may change their places.
    """

    def __init__(
        self,
        *,
        brightness: NonNegative = 32.0,
        contrast: tuple[NonNegative, NonNegative] = (0.5, 1.5),
        saturation: tuple[NonNegative, NonNegative] = (0.5, 1.5),
        hue: NonNegative = 18.0,
        swap: bool = True,
    ) -> None:
        self.brightness, self.hue, self.swap = brightness, hue, swap
        self.contrast, self.saturation = contrast, saturation

    def __call__(self, inputs: Any, target: Any) -> tuple[Any, Any]:
        images = torch.stack([self._distorted(image.float()) for image in inputs["images"]])
        return {**inputs, "images": images}, target

    def _distorted(self, image: Tensor) -> Tensor:
        if chance(0.5):
            image = image + uniform(-self.brightness, self.brightness)
        early = chance(0.5)
        if early:
            image = self._contrasted(image)
        if chance(0.5):
            high = image.amax(0, keepdim=True)
            image = high - (high - image) * uniform(*self.saturation)
        image = image.clamp(0, 255)
        if chance(0.5):
            image = 255 * functional.adjust_hue(image / 255, uniform(-self.hue, self.hue) / 360)
        if not early:
            image = self._contrasted(image)
        if self.swap and chance(0.5):
            image = image[torch.randperm(3)]
        return image.round().clamp(0, 255).to(torch.uint8)

    def _contrasted(self, image: Tensor) -> Tensor:
        return image * uniform(*self.contrast) if chance(0.5) else image
