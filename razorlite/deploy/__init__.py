"""Using and shipping trained models."""

from razorlite.deploy.compare import BOX_TOLERANCE, SCORE_TOLERANCE, Agreement, agreement
from razorlite.deploy.export import Exported, export
from razorlite.deploy.graph import Deployed
from razorlite.deploy.predictor import Prediction, Predictor
from razorlite.deploy.runtimes import FileModel, open_file, read_meta
from razorlite.deploy.sources import Picture, count, pictures
from razorlite.deploy.timer import RuntimeTimer

__all__ = [
    "BOX_TOLERANCE",
    "SCORE_TOLERANCE",
    "Agreement",
    "Deployed",
    "Exported",
    "FileModel",
    "Picture",
    "Prediction",
    "Predictor",
    "RuntimeTimer",
    "agreement",
    "count",
    "export",
    "open_file",
    "pictures",
    "read_meta",
]
