"""Detectors: backbone, neck and head together."""

from razorlite.models.detectors import single_stage, two_stage

__all__ = ["single_stage", "two_stage"]
