"""Accuracy and confusion by hand."""

import pytest
import torch
from torch import tensor

from razorlite.core.errors import DataError, EvaluationError
from razorlite.evaluation import Accuracy, ConfusionMatrix

SCORES = tensor([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])


def test_top_k_counts_labels_among_the_best():
    metric = Accuracy(topk=(1, 2))
    metric.update(SCORES[:2], tensor([1, 1]))
    metric.update(SCORES[2:], tensor([0, 0]))
    assert metric.compute() == {"top1": 0.5, "top2": 0.75}


def test_top_five_of_three_classes_is_everything():
    metric = Accuracy()
    metric.update(SCORES, tensor([2, 2, 0, 1]))
    assert metric.compute() == {"top1": 0.0, "top5": 1.0}


def test_confusion_counts_true_rows_and_predicted_columns():
    metric = ConfusionMatrix(classes=["a", "b", "c"])
    metric.update(SCORES, tensor([1, 0, 0, 0]))
    assert metric.matrix().tolist() == [[2, 0, 1], [0, 1, 0], [0, 0, 0]]
    metrics = metric.compute()
    assert metrics["accuracy"] == 0.75
    assert metrics["class_accuracy"] == pytest.approx((2 / 3 + 1) / 2)  # class c never occurs
    assert metric.names() == ["a", "b", "c"]


def test_no_images_is_an_error():
    with pytest.raises(DataError, match="got no images"):
        Accuracy().compute()


def test_reset_forgets():
    metric = Accuracy(topk=(1,))
    metric.update(SCORES, tensor([0, 0, 0, 0]))
    metric.reset()
    metric.update(SCORES[:1], torch.tensor([1]))
    assert metric.compute() == {"top1": 1.0}


@pytest.mark.parametrize("metric", [Accuracy(), ConfusionMatrix()])
def test_what_cannot_be_judged_is_refused(metric):
    with pytest.raises(EvaluationError, match="returned 4 results for 3 images"):
        metric.update(SCORES, tensor([0, 0, 0]))
    with pytest.raises(EvaluationError, match="hold NaN"):
        metric.update(SCORES * torch.nan, tensor([0, 0, 0, 0]))
    for label in (3, -1):
        with pytest.raises(DataError, match=f"has 3 classes but met label {label}"):
            metric.update(SCORES, tensor([0, label, 0, 0]))
