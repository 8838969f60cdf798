"""Backbones: images to a tuple of feature maps."""

from razorlite.models.backbones import resnet, shufflenet

__all__ = ["resnet", "shufflenet"]
