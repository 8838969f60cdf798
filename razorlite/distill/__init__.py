"""Knowledge distillation: recorders on forward hooks, terms, losses, connectors, and the step."""

from razorlite.distill.averaged import Averaged
from razorlite.distill.config import (
    EMA,
    LARGEST_PATH,
    DistillerConfig,
    DistillPair,
    TeacherConfig,
    names_file,
)
from razorlite.distill.connectors import (
    Connector,
    ConvConnector,
    LinearConnector,
    MaskedGeneration,
    NonLocalConnector,
)
from razorlite.distill.distiller import Distiller
from razorlite.distill.expansion import by_recipe, expand_recipe
from razorlite.distill.head_terms import CrossHead, LocalisationDistillation, ScoredMaps
from razorlite.distill.losses import (
    CRD,
    DIST,
    DKD,
    FBKD,
    FGD,
    LD,
    MGD,
    OFD,
    PKD,
    WSLD,
    ActivationBoundary,
    AttentionTransfer,
    ChannelWiseDivergence,
    CrossKDQuality,
    DistillLoss,
    FactorTransfer,
    FeatureL2,
    FeatureMSE,
    LogitKL,
    RKDAngle,
    RKDDistance,
    SigmoidKL,
)
from razorlite.distill.pairs import PairTerm
from razorlite.distill.recipes import RECIPES
from razorlite.distill.recorder import Recorder
from razorlite.distill.region_terms import SharedProposals
from razorlite.distill.scene import Scene, Side, Term
from razorlite.distill.spans import Length
from razorlite.distill.step import DistilledStep
from razorlite.distill.taps import Recorded, Tap
from razorlite.distill.teachers import Teachers

__all__ = [
    "CRD",
    "DIST",
    "DKD",
    "EMA",
    "FBKD",
    "FGD",
    "LARGEST_PATH",
    "LD",
    "MGD",
    "OFD",
    "PKD",
    "RECIPES",
    "WSLD",
    "ActivationBoundary",
    "AttentionTransfer",
    "Averaged",
    "ChannelWiseDivergence",
    "Connector",
    "ConvConnector",
    "CrossHead",
    "CrossKDQuality",
    "DistillLoss",
    "DistillPair",
    "DistilledStep",
    "Distiller",
    "DistillerConfig",
    "FactorTransfer",
    "FeatureL2",
    "FeatureMSE",
    "Length",
    "LinearConnector",
    "LocalisationDistillation",
    "LogitKL",
    "MaskedGeneration",
    "NonLocalConnector",
    "PairTerm",
    "RKDAngle",
    "RKDDistance",
    "Recorded",
    "Recorder",
    "Scene",
    "ScoredMaps",
    "SharedProposals",
    "Side",
    "SigmoidKL",
    "Tap",
    "TeacherConfig",
    "Teachers",
    "Term",
    "by_recipe",
    "expand_recipe",
    "names_file",
]
