"""Detectors: backbone, neck and head together."""

from razorlite.models.detectors import single_stage

__all__ = ["single_stage"]
