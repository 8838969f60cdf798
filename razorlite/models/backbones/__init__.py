"""Backbones: images to a tuple of feature maps."""

from razorlite.models.backbones import (
    choice_blocks,
    cspnext,
    mobilenet,
    once_for_all,
    resnet,
    searchable_mobilenet,
    searchable_shufflenet,
    shufflenet,
    timm_backbone,
    timm_encoder,
    torchvision_backbone,
    vit,
)

__all__ = [
    "choice_blocks",
    "cspnext",
    "mobilenet",
    "once_for_all",
    "resnet",
    "searchable_mobilenet",
    "searchable_shufflenet",
    "shufflenet",
    "timm_backbone",
    "timm_encoder",
    "torchvision_backbone",
    "vit",
]
