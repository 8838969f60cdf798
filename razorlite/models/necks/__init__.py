"""Necks: what lies between a backbone and a head."""

from razorlite.models.necks import channel_mapper, cspnext_pafpn, fpn, pafpn, pooling

__all__ = ["channel_mapper", "cspnext_pafpn", "fpn", "pafpn", "pooling"]
