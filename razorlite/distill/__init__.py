"""Knowledge distillation: recorders on forward hooks, terms, losses, connectors, and the step."""

from razorlite.distill.config import DistillerConfig, DistillPair, TeacherConfig
from razorlite.distill.connectors import Connector, ConvConnector, LinearConnector
from razorlite.distill.distiller import Distiller
from razorlite.distill.losses import (
    PKD,
    AttentionTransfer,
    ChannelWiseDivergence,
    DistillLoss,
    FeatureMSE,
    LogitKL,
    SigmoidKL,
)
from razorlite.distill.pairs import PairTerm
from razorlite.distill.recorder import Recorder
from razorlite.distill.scene import Scene, Side, Term
from razorlite.distill.step import DistilledStep
from razorlite.distill.taps import Recorded, Tap

__all__ = [
    "PKD",
    "AttentionTransfer",
    "ChannelWiseDivergence",
    "Connector",
    "ConvConnector",
    "DistillLoss",
    "DistillPair",
    "DistilledStep",
    "Distiller",
    "DistillerConfig",
    "FeatureMSE",
    "LinearConnector",
    "LogitKL",
    "PairTerm",
    "Recorded",
    "Recorder",
    "Scene",
    "Side",
    "SigmoidKL",
    "Tap",
    "TeacherConfig",
    "Term",
]
