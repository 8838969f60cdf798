"""Metrics and running them."""

from razorlite.evaluation._coco_entries import detection_entries
from razorlite.evaluation.classification import Accuracy, ConfusionMatrix
from razorlite.evaluation.coco import CocoMetric
from razorlite.evaluation.evaluate import eval_mode, evaluate
from razorlite.evaluation.metric import Metric
from razorlite.evaluation.resampling import image_draws, interval
from razorlite.evaluation.voc import VocMetric

__all__ = [
    "Accuracy",
    "CocoMetric",
    "ConfusionMatrix",
    "Metric",
    "VocMetric",
    "detection_entries",
    "eval_mode",
    "evaluate",
    "image_draws",
    "interval",
]
