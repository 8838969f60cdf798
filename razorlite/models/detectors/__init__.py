"""Detectors: backbone, neck and head together."""

from razorlite.models.detectors import detr, single_stage, torchvision_detector, two_stage

__all__ = ["detr", "single_stage", "torchvision_detector", "two_stage"]
