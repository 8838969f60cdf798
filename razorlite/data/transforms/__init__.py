"""Transforms that keep an image and its boxes, labels and masks together."""

from razorlite.data.transforms.base import Transform, apply_all
from razorlite.data.transforms.colour import ColourJitter, RandomErasing, TorchvisionTransform
from razorlite.data.transforms.crop import (
    CenterCrop,
    RandomCrop,
    RandomIoUCrop,
    RandomResizedCrop,
)
from razorlite.data.transforms.geometry import (
    Pad,
    RandomAffine,
    RandomFlip,
    Resize,
    ScaleJitter,
)

__all__ = [
    "CenterCrop",
    "ColourJitter",
    "Pad",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomFlip",
    "RandomIoUCrop",
    "RandomResizedCrop",
    "Resize",
    "ScaleJitter",
    "TorchvisionTransform",
    "Transform",
    "apply_all",
]
