"""Metrics and running them."""

from razorlite.evaluation.classification import Accuracy, ConfusionMatrix
from razorlite.evaluation.coco import CocoMetric
from razorlite.evaluation.evaluate import detect, eval_mode, evaluate, target_to_original
from razorlite.evaluation.metric import Metric
from razorlite.evaluation.voc import VocMetric

__all__ = [
    "Accuracy",
    "CocoMetric",
    "ConfusionMatrix",
    "Metric",
    "VocMetric",
    "detect",
    "eval_mode",
    "evaluate",
    "target_to_original",
]
