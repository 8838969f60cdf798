"""What a transform is, and how an image and its boxes and masks go through one together."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torchvision import tv_tensors

from razorlite.core.errors import ConfigError, DataError
from razorlite.structures import Target

S = TypeVar("S")
T = TypeVar("T")
Size = tuple[int, int]


class Transform(ABC):
    """Changes an image, and its target with it.

    Calls take and return (image, target): image is (3, H, W) uint8 RGB; target is a `Target` in
    pixels of that image, or a `Label`, which stays as it is. Transforms for data sets of one's own
    take what these give: a mapping of tensors and an annotation, changed in step. Random choices
    come from torch's global random state, which the loader seeds for each item. Inputs are never
    changed in place.
    """

    @property
    def draws(self) -> bool:
        """Whether an image may look different each time; true unless a transform knows better."""
        return True

    @abstractmethod
    def __call__(self, image: Tensor, target: T) -> tuple[Tensor, T]: ...


def apply_all(transforms: Sequence[Callable[..., Any]], inputs: S, target: T) -> tuple[S, T]:
    """Put an image, or other inputs, and their target through transforms, in order.

    Raises:
        DataError: inputs are a mapping, and a transform cannot take that.
    """
    for transform in transforms:
        try:
            inputs, target = transform(inputs, target)
        except (AttributeError, TypeError) as error:
            if not isinstance(inputs, Mapping):
                raise
            raise DataError(
                f"{type(transform).__name__} cannot take inputs by name ({', '.join(inputs)}): "
                f"{str(error).splitlines()[0]:.80}; write a transform that changes all of them in "
                f"step"
            ) from error
    return inputs, target


def geometric(
    function: Callable[..., Tensor],
    image: Tensor,
    target: T,
    *,
    for_image: dict[str, Any] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, T]:
    """Apply one function of torchvision.transforms.v2.functional to image, boxes and masks.

    Args:
        function: dispatches on the type of tensor, like `horizontal_flip`.
        image: (3, H, W).
        target: `Target`, or a label.
        for_image: further arguments for the image alone, like the interpolation.
        **kwargs: arguments for all.

    Returns:
        The new image, and the target with boxes, masks and `size` changed, boxes not yet clipped.
    """
    changed = function(image, **kwargs, **(for_image or {}))
    if not isinstance(target, Target):
        return changed, target
    canvas: Size = (image.shape[-2], image.shape[-1])
    boxes = tv_tensors.BoundingBoxes(target.boxes, format="XYXY", canvas_size=canvas)  # type: ignore[call-overload]
    boxes = function(boxes, **kwargs).as_subclass(Tensor)
    masks = None
    if target.masks is not None:
        masks = function(tv_tensors.Mask(target.masks), **kwargs).as_subclass(Tensor)
    size = (changed.shape[-2], changed.shape[-1])
    return changed, cast(T, replace(target, boxes=boxes, masks=masks, size=size))


def tidy(target: T, min_size: float = 1.0, keep: Tensor | None = None) -> T:
    """Clip boxes to the image and drop objects that are too small, with labels and masks.

    Args:
        target: `Target`, or a label, which stays as it is.
        min_size: least width and height in pixels.
        keep: (N,) bool, objects that may stay.
    """
    if not isinstance(target, Target) or len(target) == 0:
        return target
    clipped = clip_boxes(target.boxes, target.size)
    sides = clipped[:, 2:] - clipped[:, :2]
    fits = (sides >= min_size).all(dim=1)
    if target.masks is not None:
        fits &= target.masks.flatten(1).any(dim=1)
    return cast(T, replace(target, boxes=clipped)[fits if keep is None else fits & keep])


def tightened(target: T) -> T:
    """Return the target with the boxes around its masks, where it has masks; empty ones: 0 wide."""
    if not isinstance(target, Target) or target.masks is None or len(target) == 0:
        return target
    boxes = torch.zeros_like(target.boxes)
    for box, mask in zip(boxes, target.masks, strict=True):
        ys, xs = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
        if len(ys):
            box.copy_(torch.stack([xs[0, 0], ys[0, 0], xs[-1, 0] + 1, ys[-1, 0] + 1]))
    return cast(T, replace(target, boxes=boxes))


def clip_boxes(boxes: Tensor, size: Size) -> Tensor:
    """Return (N, 4) x1, y1, x2, y2 boxes clipped to an image of (height, width)."""
    limits = boxes.new_tensor([size[1], size[0], size[1], size[0]])
    return torch.minimum(boxes.clamp(min=0), limits)


def uniform(low: float, high: float) -> float:
    """Return a random number from torch's global random state."""
    return low + (high - low) * float(torch.rand(()))


def randint(count: int) -> int:
    """Return a random integer from 0 to count - 1, from torch's global random state."""
    return int(torch.randint(count, ()))


def chance(prob: float) -> bool:
    """Return true with a probability."""
    return float(torch.rand(())) < prob


def check_prob(what: str, value: float) -> float:
    """Return a probability.

    Raises:
        ConfigError: it is not between 0 and 1.
    """
    if not 0 <= value <= 1:
        raise ConfigError(f"{what} is a probability between 0 and 1, got {value}")
    return value


def check_range(what: str, value: tuple[float, float], least: float = 0.0) -> tuple[float, float]:
    """Return a range (low, high).

    Raises:
        ConfigError: it is upside down, or starts at or below `least`.
    """
    low, high = value
    if not least < low <= high:
        raise ConfigError(f"{what} is (low, high) above {least:g}, got ({low}, {high})")
    return low, high


def check_size(what: str, value: Size) -> Size:
    """Return (height, width).

    Raises:
        ConfigError: a side is not positive.
    """
    if len(value) != 2 or min(value) < 1:
        raise ConfigError(f"{what} is (height, width), both 1 or more, got {tuple(value)}")
    return int(value[0]), int(value[1])
