"""Necks: what lies between a backbone and a head."""

from razorlite.models.necks import fpn, pooling

__all__ = ["fpn", "pooling"]
