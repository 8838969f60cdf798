"""Pruning: importance of channels, a budget, and real slimming to a plain model."""

import sys

from razorlite.core.command_package import CommandPackage
from razorlite.prune.budget import Budget, SlimCost
from razorlite.prune.channels import Channels
from razorlite.prune.config import PruneConfig
from razorlite.prune.data_importance import DataImportance
from razorlite.prune.fisher import GroupFisherImportance
from razorlite.prune.goal import Goal
from razorlite.prune.gradient_importance import (
    GradientImportance,
    HessianImportance,
    TaylorImportance,
)
from razorlite.prune.gradual import GradualStep
from razorlite.prune.importance import (
    BNScaleImportance,
    FPGMImportance,
    Importance,
    L1Importance,
    L2Importance,
    RandomImportance,
    WeightImportance,
)
from razorlite.prune.kept import compose
from razorlite.prune.markov_step import MarkovStep
from razorlite.prune.masks import Masks
from razorlite.prune.pruner import Pruner
from razorlite.prune.schedule import polynomial_schedule
from razorlite.prune.slim import apply, mask, slim_weights
from razorlite.prune.sparse import SparseStep
from razorlite.prune.stopwatch import Paired, Stopwatch
from razorlite.prune.structure import Structures
from razorlite.prune.trial import Trial
from razorlite.prune.widths import ChannelWidths

__all__ = [
    "BNScaleImportance",
    "Budget",
    "ChannelWidths",
    "Channels",
    "DataImportance",
    "FPGMImportance",
    "Goal",
    "GradientImportance",
    "GradualStep",
    "GroupFisherImportance",
    "HessianImportance",
    "Importance",
    "L1Importance",
    "L2Importance",
    "MarkovStep",
    "Masks",
    "Paired",
    "PruneConfig",
    "Pruner",
    "RandomImportance",
    "SlimCost",
    "SparseStep",
    "Stopwatch",
    "Structures",
    "TaylorImportance",
    "Trial",
    "WeightImportance",
    "apply",
    "compose",
    "mask",
    "polynomial_schedule",
    "slim_weights",
]

sys.modules[__name__].__class__ = CommandPackage
