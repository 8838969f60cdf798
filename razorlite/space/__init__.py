"""What may vary in a model, and one point of it."""

from razorlite.space.mutable import Mutable, active_modules
from razorlite.space.mutator import Choices, Mutator
from razorlite.space.placeholder import Placeholder
from razorlite.space.recalibration import kept_statistics, recalibrate
from razorlite.space.search_space import ChoiceSpace, SearchSpace
from razorlite.space.step import PathStep, SandwichStep, SinglePathStep
from razorlite.space.subnet import Subnet

__all__ = [
    "ChoiceSpace",
    "Choices",
    "Mutable",
    "Mutator",
    "PathStep",
    "Placeholder",
    "SandwichStep",
    "SearchSpace",
    "SinglePathStep",
    "Subnet",
    "active_modules",
    "kept_statistics",
    "recalibrate",
]
