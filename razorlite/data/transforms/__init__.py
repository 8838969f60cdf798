"""Transforms that keep an image and its boxes, labels and masks together."""

from razorlite.data.transforms.base import Transform, apply_all
from razorlite.data.transforms.choice import RandomChoice
from razorlite.data.transforms.colour import (
    ColourJitter,
    HSVJitter,
    RandomErasing,
    TorchvisionTransform,
)
from razorlite.data.transforms.crop import (
    CenterCrop,
    RandomCrop,
    RandomIoUCrop,
    RandomResizedCrop,
    RandomSizeCrop,
)
from razorlite.data.transforms.geometry import (
    Pad,
    RandomAffine,
    RandomFlip,
    Resize,
    ScaleJitter,
)
from razorlite.data.transforms.mixing import CachedMixUp, CachedMosaic, Mixing

__all__ = [
    "CachedMixUp",
    "CachedMosaic",
    "CenterCrop",
    "ColourJitter",
    "HSVJitter",
    "Mixing",
    "Pad",
    "RandomAffine",
    "RandomChoice",
    "RandomCrop",
    "RandomErasing",
    "RandomFlip",
    "RandomIoUCrop",
    "RandomResizedCrop",
    "RandomSizeCrop",
    "Resize",
    "ScaleJitter",
    "TorchvisionTransform",
    "Transform",
    "apply_all",
]
