"""Necks: what lies between a backbone and a head."""

from razorlite.models.necks import fpn, pafpn, pooling

__all__ = ["fpn", "pafpn", "pooling"]
