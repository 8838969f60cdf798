"""Using and shipping trained models."""

from razorlite.deploy.compare import BOX_TOLERANCE, SCORE_TOLERANCE, Agreement, agreement
from razorlite.deploy.export import Exported, export
from razorlite.deploy.graph import Deployed
from razorlite.deploy.heat import HeatMap, HeatMethod, heat_map
from razorlite.deploy.prediction import Prediction
from razorlite.deploy.predictor import Predictor
from razorlite.deploy.quantise import Calibrated, calibrate
from razorlite.deploy.results import coco_dict
from razorlite.deploy.rounded import QuantisedStep
from razorlite.deploy.runtimes import FileModel, open_file, read_meta
from razorlite.deploy.sources import Picture, count, files_of, pictures
from razorlite.deploy.timer import RuntimeTimer
from razorlite.deploy.views import AUGMENTED, PLAIN, View

__all__ = [
    "AUGMENTED",
    "BOX_TOLERANCE",
    "PLAIN",
    "SCORE_TOLERANCE",
    "Agreement",
    "Calibrated",
    "Deployed",
    "Exported",
    "FileModel",
    "HeatMap",
    "HeatMethod",
    "Picture",
    "Prediction",
    "Predictor",
    "QuantisedStep",
    "RuntimeTimer",
    "View",
    "agreement",
    "calibrate",
    "coco_dict",
    "count",
    "export",
    "files_of",
    "heat_map",
    "open_file",
    "pictures",
    "read_meta",
]
