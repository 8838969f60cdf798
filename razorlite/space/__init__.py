"""What may vary in a model, and one point of it."""

from razorlite.space.block_widths import BlockWidths
from razorlite.space.choice_space import ChoiceSpace
from razorlite.space.dimension import Dimension, Value, Values
from razorlite.space.elastic import Elastic, Form
from razorlite.space.elastic_preparer import ElasticLayers, Follow
from razorlite.space.fair_steps import FairStep, ProgressiveStep, WindowStep
from razorlite.space.input_scale import InputScales
from razorlite.space.mutable import Mutable, OneOf, active_modules
from razorlite.space.mutator import Choices, Mutator, Preparer, prepare
from razorlite.space.once_for_all import OnceForAll
from razorlite.space.placeholder import Placeholder
from razorlite.space.precision import MixedPrecision
from razorlite.space.queries import ElasticQueries
from razorlite.space.recalibration import kept_statistics, recalibrate
from razorlite.space.search_space import SearchSpace
from razorlite.space.stages import ElasticDepth
from razorlite.space.step import PathStep, SandwichStep, SinglePathStep
from razorlite.space.subnet import Subnet

__all__ = [
    "BlockWidths",
    "ChoiceSpace",
    "Choices",
    "Dimension",
    "Elastic",
    "ElasticDepth",
    "ElasticLayers",
    "ElasticQueries",
    "FairStep",
    "Follow",
    "Form",
    "InputScales",
    "MixedPrecision",
    "Mutable",
    "Mutator",
    "OnceForAll",
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
