"""Names of metrics, known before anything is evaluated."""

import pytest
import torch

from razorlite.core.errors import ConfigError
from razorlite.evaluation import Accuracy, CocoMetric, ConfusionMatrix, Metric, VocMetric
from razorlite.evaluation.metric import need_value
from razorlite.structures import Detections, Target

CLASSES = ["a", "b"]
METRICS = [
    CocoMetric(),
    CocoMetric(kind="segm"),
    CocoMetric(classes=CLASSES, per_class=True),
    VocMetric(),
    VocMetric(classes=CLASSES, per_class=True),
    Accuracy(topk=(1, 3)),
    ConfusionMatrix(classes=CLASSES),
]


class Own(Metric):
    """A user's metric; its metrics are not known before."""

    def update(self, predictions, targets):
        self.items += targets

    def compute(self):
        return {"mine": 1.0}


def one_image():
    boxes, labels = torch.tensor([[1.0, 1.0, 3.0, 3.0]]), torch.tensor([1])
    masks = torch.zeros(1, 4, 4, dtype=torch.bool)
    masks[0, 1:3, 1:3] = True
    size = {"size": (4, 4), "original_size": (4, 4)}
    found = Detections(boxes, torch.tensor([0.9]), labels, masks)
    return [found], [Target(boxes, labels, masks=masks, **size)]


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: type(m).__name__)
def test_they_are_those_of_an_evaluation(metric):
    names = metric.value_names()
    assert metric.items == []
    if isinstance(metric, (Accuracy, ConfusionMatrix)):
        metric.update(torch.eye(2), torch.tensor([0, 1]))
    else:
        metric.update(*one_image())
    assert names == list(metric.compute())
    metric.reset()


def test_unknown_where_they_hang_on_the_images():
    assert CocoMetric(per_class=True).value_names() == []
    assert Own().value_names() == []
    need_value(Own(), "anything", "train.best_metric")


@pytest.mark.parametrize(
    ("metric", "name", "message"),
    [
        (CocoMetric(), "AP5O", "did you mean 'AP"),
        (VocMetric(), "AP", "VocMetric .mAP.; did you mean 'mAP'"),
        (Accuracy(), "zzz", "top1, top5.; name one of them"),
    ],
)
def test_a_name_that_is_none_is_refused(metric, name, message):
    with pytest.raises(ConfigError, match=f"train.best_metric: '{name}' is not among .*{message}"):
        need_value(metric, name, "train.best_metric")
    need_value(metric, None, "train.best_metric")
    need_value(metric, metric.value_names()[0], "train.best_metric")
