"""Knowledge distillation: recorders on forward hooks, terms, losses, connectors, and the step."""

from razorlite.distill.config import DistillerConfig, DistillPair, TeacherConfig
from razorlite.distill.connectors import (
    Connector,
    ConvConnector,
    LinearConnector,
    MaskedGeneration,
)
from razorlite.distill.distiller import Distiller
from razorlite.distill.losses import (
    DIST,
    DKD,
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
    FeatureL2,
    FeatureMSE,
    LogitKL,
    RKDAngle,
    RKDDistance,
    SigmoidKL,
)
from razorlite.distill.pairs import PairTerm
from razorlite.distill.recorder import Recorder
from razorlite.distill.scene import Scene, Side, Term
from razorlite.distill.step import DistilledStep
from razorlite.distill.taps import Recorded, Tap

__all__ = [
    "DIST",
    "DKD",
    "FGD",
    "LD",
    "MGD",
    "OFD",
    "PKD",
    "WSLD",
    "ActivationBoundary",
    "AttentionTransfer",
    "ChannelWiseDivergence",
    "Connector",
    "ConvConnector",
    "CrossKDQuality",
    "DistillLoss",
    "DistillPair",
    "DistilledStep",
    "Distiller",
    "DistillerConfig",
    "FeatureL2",
    "FeatureMSE",
    "LinearConnector",
    "LogitKL",
    "MaskedGeneration",
    "PairTerm",
    "RKDAngle",
    "RKDDistance",
    "Recorded",
    "Recorder",
    "Scene",
    "Side",
    "SigmoidKL",
    "Tap",
    "TeacherConfig",
    "Term",
]
