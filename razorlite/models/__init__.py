"""Detectors and classifiers and their parts; importing this registers all their names."""

from razorlite.models import backbones, classifier, detectors, heads, necks, tasks

__all__ = ["backbones", "classifier", "detectors", "heads", "necks", "tasks"]
