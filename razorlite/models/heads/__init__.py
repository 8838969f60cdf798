"""Heads: from feature maps to boxes or classes."""

from razorlite.models.heads import fcos_head, linear_head, retina_head

__all__ = ["fcos_head", "linear_head", "retina_head"]
