"""Backbones: images to a tuple of feature maps."""

from razorlite.models.backbones import (
    choice_blocks,
    resnet,
    searchable_mobilenet,
    searchable_shufflenet,
    shufflenet,
)

__all__ = [
    "choice_blocks",
    "resnet",
    "searchable_mobilenet",
    "searchable_shufflenet",
    "shufflenet",
]
