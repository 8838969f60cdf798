"""Heads: from feature maps to boxes or classes."""

from razorlite.models.heads import (
    cascade_roi_head,
    fcos_head,
    linear_head,
    region_heads,
    retina_head,
    roi_head,
    rpn_head,
)

__all__ = [
    "cascade_roi_head",
    "fcos_head",
    "linear_head",
    "region_heads",
    "retina_head",
    "roi_head",
    "rpn_head",
]
