"""Knowledge distillation: recorders on forward hooks, losses, connectors, and the step."""

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
from razorlite.distill.recorder import Recorder, Tap
from razorlite.distill.step import DistilledStep

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
    "Recorder",
    "SigmoidKL",
    "Tap",
    "TeacherConfig",
]
