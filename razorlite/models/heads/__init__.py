"""Heads: from feature maps to boxes or classes."""

from razorlite.models.heads import (
    fcos_head,
    linear_head,
    region_heads,
    retina_head,
    roi_head,
    rpn_head,
)

__all__ = ["fcos_head", "linear_head", "region_heads", "retina_head", "roi_head", "rpn_head"]
