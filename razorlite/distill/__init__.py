"""Knowledge distillation: recorders on forward hooks, terms, losses, connectors, and the step."""

from razorlite.distill.averaged import Averaged
from razorlite.distill.config import (
    EMA,
    LARGEST_PATH,
    DistillerConfig,
    DistillPair,
    SyntheticConfig,
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
from razorlite.distill.generator import (
    BeliefMismatch,
    Generator,
    GeneratorLoss,
    ImageGenerator,
    TeacherConfidence,
)
from razorlite.distill.head_terms import CrossHead, LocalisationDistillation, ScoredMaps
from razorlite.distill.lesson_cache import LessonCache
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
from razorlite.distill.synthetic import ForwardStep, NoiseLoader, SyntheticStep
from razorlite.distill.taps import Recorded, Tap
from razorlite.distill.teachers import Teachers
from razorlite.distill.without_data import noise_for, without_data

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
    "BeliefMismatch",
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
    "ForwardStep",
    "Generator",
    "GeneratorLoss",
    "ImageGenerator",
    "Length",
    "LessonCache",
    "LinearConnector",
    "LocalisationDistillation",
    "LogitKL",
    "MaskedGeneration",
    "NoiseLoader",
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
    "SyntheticConfig",
    "SyntheticStep",
    "Tap",
    "TeacherConfidence",
    "TeacherConfig",
    "Teachers",
    "Term",
    "by_recipe",
    "expand_recipe",
    "names_file",
    "noise_for",
    "without_data",
]
