"""What heads are made of: anchors, assigners, coders, losses, post-processing."""

from razorlite.models.tasks import anchors, assigners, losses, postprocess, samplers

__all__ = ["anchors", "assigners", "losses", "postprocess", "samplers"]
