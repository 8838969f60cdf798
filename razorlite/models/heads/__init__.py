"""Heads: from feature maps to boxes or classes."""

from razorlite.models.heads import (
    atss_head,
    cascade_roi_head,
    detr_head,
    fcos_head,
    gfl_head,
    linear_head,
    region_heads,
    retina_head,
    roi_head,
    rpn_head,
    rtmdet_head,
    rtmdet_ins_head,
)

__all__ = [
    "atss_head",
    "cascade_roi_head",
    "detr_head",
    "fcos_head",
    "gfl_head",
    "linear_head",
    "region_heads",
    "retina_head",
    "roi_head",
    "rpn_head",
    "rtmdet_head",
    "rtmdet_ins_head",
]
