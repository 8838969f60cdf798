"""What a student learns to match: losses between a student's and a teacher's tensors.

Every loss takes two tensors, student first, and returns a float32 scalar; under AMP the numbers
are cast up first. Every loss is a mean over images, so that on several processes with equal batches
the exchanged gradient is that of the joined batch (those that compare images with each other do so
within their own process: `PKD`, `DIST`, `RKDDistance`, `RKDAngle`; `CRD` compares with all). The
teacher's tensor takes no gradient.
"""

from razorlite.distill.losses.base import DistillLoss
from razorlite.distill.losses.boundaries import OFD, ActivationBoundary
from razorlite.distill.losses.contrast import CRD
from razorlite.distill.losses.dense import LD, CrossKDQuality
from razorlite.distill.losses.factors import FactorTransfer
from razorlite.distill.losses.features import (
    PKD,
    AttentionTransfer,
    ChannelWiseDivergence,
    FeatureL2,
    FeatureMSE,
)
from razorlite.distill.losses.focal import FGD
from razorlite.distill.losses.fusion import FBKD
from razorlite.distill.losses.logits import DIST, DKD, WSLD, LogitKL, SigmoidKL
from razorlite.distill.losses.masked import MGD
from razorlite.distill.losses.relations import RKDAngle, RKDDistance

__all__ = [
    "CRD",
    "DIST",
    "DKD",
    "FBKD",
    "FGD",
    "LD",
    "MGD",
    "OFD",
    "PKD",
    "WSLD",
    "ActivationBoundary",
    "AttentionTransfer",
    "ChannelWiseDivergence",
    "CrossKDQuality",
    "DistillLoss",
    "FactorTransfer",
    "FeatureL2",
    "FeatureMSE",
    "LogitKL",
    "RKDAngle",
    "RKDDistance",
    "SigmoidKL",
]
