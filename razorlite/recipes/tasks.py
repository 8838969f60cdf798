"""Whether model, metric and data are all of detection, or all of classification."""

import inspect
from typing import Any, Literal

from torch import nn

from razorlite.core.errors import ConfigError
from razorlite.data import ShapesDataset
from razorlite.data.classification import LabelledImages
from razorlite.data.records import RecordDataset
from razorlite.evaluation import Accuracy, CocoMetric, ConfusionMatrix, VocMetric
from razorlite.models.classifier import ImageClassifier
from razorlite.models.detectors.single_stage import Detector

Task = Literal["classification", "detection"]
_CLASSIFICATION = (ImageClassifier, Accuracy, ConfusionMatrix, LabelledImages)
_DETECTION = (Detector, CocoMetric, VocMetric, RecordDataset, ShapesDataset)
_EXAMPLES = {
    "classification": "ImageClassifier, Accuracy, ImageFolderDataset",
    "detection": "FCOS, CocoMetric, CocoDataset",
}


def task_of(part: Any) -> Task | None:
    """Return what a model, metric or data set is for; None for types of one's own."""
    if isinstance(part, _CLASSIFICATION):
        return "classification"
    if isinstance(part, _DETECTION):
        return "detection"
    parts = getattr(part, "datasets", None) or [getattr(part, "dataset", None)]
    return None if parts[0] is None else task_of(parts[0])


def compare_tasks(model: Any, other: Any, key: str) -> None:
    """Refuse a metric or data set of another task than the model's.

    Args:
        model: what is trained or measured.
        other: a metric or a data set.
        key: the configuration's entry of `other`.

    Raises:
        ConfigError: they do not go together.
    """
    expected, found = task_of(model), task_of(other)
    if expected and found and expected != found:
        raise ConfigError(
            f"{key} is for {found}, but the model, {type(model).__name__}, is for {expected}; take "
            f"parts of one task, such as {_EXAMPLES[expected]}"
        )


def need_predict(model: nn.Module) -> None:
    """Refuse a model whose predictions cannot be asked for: `predict` takes one batch.

    Raises:
        ConfigError: it has no such method, or one of other arguments.
    """
    name, predict = type(model).__name__, getattr(model, "predict", None)
    if predict is None:
        raise ConfigError(f"{name} has no predict(batch), whose results a metric evaluates; add it")
    expected = [
        p.name for p in inspect.signature(predict).parameters.values() if p.default is p.empty
    ]
    if len(expected) != 1:
        raise ConfigError(
            f"predict of {name} takes {', '.join(expected) or 'nothing'}; it is given one "
            f"razorlite.structures.Batch: predict(batch)"
        )
