"""What is done with the pixels of a batch before a model sees them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor

from razorlite.core import config as core_config
from razorlite.core.compute import with_layout
from razorlite.core.errors import ConfigError
from razorlite.data.transforms import Transform
from razorlite.structures import Inputs, map_images, map_inputs, sent

AnyInputs = TypeVar("AnyInputs", bound=Inputs)

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
_CLOSE = 1e-3  # relative; 123.68 for 123.675 is a rounded number, no other preprocessing


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How pixels become a model's input: it belongs to the weights and travels with them.

    Attributes:
        mean: of red, green and blue (blue, green, red for "bgr") on the scale 0 to 255.
        std: likewise, above 0.
        channels: order of the colour channels that the model wants.
        pad_multiple: sides of a batch are padded to multiples of it, in pixels.
        transforms: what is done to an image before, in evaluation, as blocks of a configuration:
            ({"type": "Resize", "size": [480, 640]},); None where it is not known.

    Raises:
        ConfigError: a number or the order is none that can be, or a transform is no block.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channels: Literal["rgb", "bgr"] = "rgb"
    pad_multiple: int = 1
    transforms: tuple[Mapping[str, Any], ...] | None = None

    def __post_init__(self) -> None:
        mean, std = tuple(self.mean), tuple(self.std)
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)
        if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, mean + std)):
            raise ConfigError(f"mean and std are three numbers, got {list(mean)} and {list(std)}")
        if min(std) <= 0:
            raise ConfigError(f"mean and std are three numbers, std above 0, got std {list(std)}")
        if self.channels not in ("rgb", "bgr"):
            raise ConfigError(f"channels is rgb or bgr, got {self.channels!r}")
        if self.pad_multiple < 1:
            raise ConfigError(f"pad_multiple is 1 or more, got {self.pad_multiple}")
        if self.transforms is not None:
            object.__setattr__(self, "transforms", tuple(map(_block, self.transforms)))

    def image_transforms(self) -> list[Transform]:
        """Return what is done to an image before it is normalised, in order.

        Raises:
            ConfigError: a block is none of a transform.
        """
        blocks = core_config.load({"transforms": list(self.transforms or ())})
        return core_config.build(blocks, _Blocks).transforms

    def to_dict(self) -> dict[str, Any]:
        """Return plain values from which `from_dict` makes an equal one."""
        known = {name: value for name, value in asdict(self).items() if value is not None}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in known.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocess":
        """Return what `to_dict` described.

        Raises:
            ConfigError: a value is none that can be.
        """
        known = {field.name for field in fields(cls)}
        try:
            return cls(**{name: value for name, value in values.items() if name in known})
        except TypeError as error:
            raise ConfigError(f"no preprocessing: {dict(values)}") from error

    def same_pixels(self, other: "Preprocess") -> bool:
        """Return whether both make the same numbers of an image; padding is left aside."""
        pairs = zip(self.mean + self.std, other.mean + other.std, strict=True)
        near = all(math.isclose(a, b, rel_tol=_CLOSE) for a, b in pairs)
        return near and self.channels == other.channels

    def __str__(self) -> str:
        mean, std = (", ".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
        return f"channels {self.channels}, mean [{mean}], std [{std}]"


PIXELS = Preprocess(mean=(0.0,) * 3, std=(1.0,) * 3)  # from 0 to 255, red first, as they are


@dataclass(frozen=True)
class _Blocks:
    """Transforms as a configuration lists them."""

    transforms: list[Transform]


class Normalise:
    """Turns uint8 batches into normalised ones on the device; padding becomes exactly 0.

    Args:
        preprocess: the model's mean, std and order of channels.
        device: where to.
        layout: how they lie in memory; convolutions are faster with channels last.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        device: torch.device | str,
        layout: torch.memory_format = torch.channels_last,
    ) -> None:
        self.device, self.layout = torch.device(device), layout
        self.mean = _per_channel(preprocess.mean, self.device)
        self.std = _per_channel(preprocess.std, self.device)
        self.swap = preprocess.channels == "bgr"

    def __call__(self, inputs: AnyInputs, sizes: Sequence[tuple[int, int]]) -> AnyInputs:
        """Return inputs on the device with float32 images.

        Args:
            inputs: with images (B, …, 3, H, W) of RGB pixels 0 to 255.
            sizes: (height, width) of each sample's images inside the batch.
        """
        moved = map_inputs(lambda value: sent(value, self.device), inputs)
        return cast(AnyInputs, map_images(lambda images: self._normal(images, sizes), moved))

    def undo(self, inputs: Inputs) -> Inputs:
        """Return inputs with the RGB pixels, whole numbers 0 to 255, that `__call__` normalised."""
        return map_images(self._pixels, inputs)

    def _normal(self, images: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
        if self.swap:
            images = images.flip(-3)
        result = images.sub(self.mean).div_(self.std)
        for image, (height, width) in zip(result, sizes, strict=True):
            image[..., height:, :] = 0
            image[..., width:] = 0
        return with_layout(result, self.layout)

    def _pixels(self, images: Tensor) -> Tensor:
        pixels = images.float().mul(self.std).add_(self.mean).round_().clamp_(0, 255)
        return pixels.flip(-3) if self.swap else pixels


class Renormalise:
    """Turns batches normalised for one model into what another model's loader would give.

    Equal to the bit, as pixels are whole numbers; padding stays 0.

    Args:
        own: how the batches are normalised.
        other: how they shall be.
        device: where they are.
    """

    def __init__(self, own: Preprocess, other: Preprocess, device: torch.device | str) -> None:
        self._own, self._other = Normalise(own, device), Normalise(other, device)

    def __call__(self, inputs: AnyInputs, sizes: Sequence[tuple[int, int]]) -> AnyInputs:
        """Return such inputs, given the (height, width) of each sample's images in the batch."""
        return cast(AnyInputs, self._other(self._own.undo(inputs), sizes))


def _block(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping) and isinstance(value.get("type"), str):
        return dict(value)
    raise ConfigError(f"transforms are blocks such as {{type: Resize, size: …}}, got {value!r:.80}")


def _per_channel(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).view(3, 1, 1)
