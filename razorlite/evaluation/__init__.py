"""Metrics and running them."""

from razorlite.evaluation._coco_entries import detection_entries
from razorlite.evaluation.calibration import Reliability, Roc, reliability, roc
from razorlite.evaluation.classification import Accuracy, ConfusionMatrix
from razorlite.evaluation.coco import CocoMetric
from razorlite.evaluation.confusion import box_confusion
from razorlite.evaluation.errors import KINDS, error_costs, find_errors
from razorlite.evaluation.evaluate import eval_mode, evaluate
from razorlite.evaluation.matches import MOST, Curve, Sample, curve, match_images
from razorlite.evaluation.metric import Metric, Recorded
from razorlite.evaluation.resampling import image_draws, interval
from razorlite.evaluation.voc import VocMetric

__all__ = [
    "KINDS",
    "MOST",
    "Accuracy",
    "CocoMetric",
    "ConfusionMatrix",
    "Curve",
    "Metric",
    "Recorded",
    "Reliability",
    "Roc",
    "Sample",
    "VocMetric",
    "box_confusion",
    "curve",
    "detection_entries",
    "error_costs",
    "eval_mode",
    "evaluate",
    "find_errors",
    "image_draws",
    "interval",
    "match_images",
    "reliability",
    "roc",
]
