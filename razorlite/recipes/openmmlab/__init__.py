"""Configurations of MMDetection 2.x and 3.x, read without being run, as configurations of ours."""

from razorlite.recipes.openmmlab.converting import Conversion, convert_config, converted

__all__ = ["Conversion", "convert_config", "converted"]
