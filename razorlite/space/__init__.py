"""What may vary in a model, and one point of it."""

from razorlite.space.choice_space import ChoiceSpace
from razorlite.space.dimension import Dimension, Value, Values
from razorlite.space.elastic import Elastic, Form
from razorlite.space.elastic_preparer import ElasticLayers, Follow
from razorlite.space.fair_steps import FairStep, ProgressiveStep, WindowStep
from razorlite.space.mutable import Mutable, OneOf, active_modules
from razorlite.space.mutator import Choices, Mutator, Preparer, prepare
from razorlite.space.placeholder import Placeholder
from razorlite.space.recalibration import kept_statistics, recalibrate
from razorlite.space.search_space import SearchSpace
from razorlite.space.stages import ElasticDepth
from razorlite.space.step import PathStep, SandwichStep, SinglePathStep
from razorlite.space.subnet import Subnet

__all__ = [
    "ChoiceSpace",
    "Choices",
    "Dimension",
    "Elastic",
    "ElasticDepth",
    "ElasticLayers",
    "FairStep",
    "Follow",
    "Form",
    "Mutable",
    "Mutator",
    "OneOf",
    "PathStep",
    "Placeholder",
    "Preparer",
    "ProgressiveStep",
    "SandwichStep",
    "SearchSpace",
    "SinglePathStep",
    "Subnet",
    "Value",
    "Values",
    "WindowStep",
    "active_modules",
    "kept_statistics",
    "prepare",
    "recalibrate",
]
