"""Accuracy and the confusion matrix of classifiers."""

from typing import Annotated

import torch
from torch import Tensor

from razorlite.core.ranges import Count, Distinct, Filled
from razorlite.core.registry import register
from razorlite.evaluation._checks import check_probabilities, names_of_labels
from razorlite.evaluation.metric import ClassNames, Metric


@register()
class Accuracy(Metric):
    """Part of the images whose label is among the k most probable classes: "top1", "top5".

    Args:
        topk: the k to report; with fewer classes than k, all classes count.
    """

    def __init__(
        self, *, topk: Annotated[tuple[Count, ...], Filled(), Distinct()] = (1, 5)
    ) -> None:
        super().__init__()
        self.topk = tuple(topk)

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Take (B, C) probabilities or logits and (B,) labels.

        Raises:
            EvaluationError: there is NaN, or they are of other images.
            DataError: a label has no probability.
        """
        check_probabilities(predictions, targets)
        k = min(max(self.topk), predictions.shape[1])
        hits = predictions.topk(k, dim=1).indices == targets[:, None]
        indices = torch.where(hits.any(dim=1), hits.int().argmax(dim=1), k)
        self.items += indices.tolist()

    def compute(self) -> dict[str, float]:
        """Return one metric in [0, 1] for each k.

        Raises:
            DataError: there were no images.
        """
        indices = torch.tensor(self.need_items())
        return {f"top{k}": float((indices < k).double().mean()) for k in self.topk}

    def value_names(self) -> list[str]:
        """Return "top1", …."""
        return [f"top{k}" for k in self.topk]


@register()
class ConfusionMatrix(Metric):
    """How often each class is taken for each other; its metrics are two accuracies.

    Args:
        classes: names of the labels; numbers by default.
    """

    def __init__(self, *, classes: ClassNames | None = None) -> None:
        super().__init__()
        self.classes = classes

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Take (B, C) probabilities or logits and (B,) labels.

        Raises:
            EvaluationError: there is NaN, or they are of other images.
            DataError: a label has no probability.
        """
        check_probabilities(predictions, targets)
        guesses = predictions.argmax(dim=1)
        self.items += list(zip(targets.tolist(), guesses.tolist(), strict=True))

    def matrix(self) -> Tensor:
        """Return (C, C) int64 counts, row: true label, column: predicted label.

        Raises:
            DataError: there were no images.
        """
        pairs = torch.tensor(self.need_items())
        size = max(len(self.classes or ()), int(pairs.max()) + 1)
        return torch.bincount(pairs[:, 0] * size + pairs[:, 1], minlength=size**2).view(size, size)

    def names(self) -> list[str]:
        """Return the names of the rows and columns."""
        return names_of_labels(self.classes, [len(self.matrix()) - 1], type(self).__name__)

    def compute(self) -> dict[str, float]:
        """Return "accuracy" over images and "class_accuracy", the mean over classes that occur.

        Raises:
            DataError: there were no images.
        """
        counts = self.matrix().double()
        rows = counts.sum(dim=1)
        recalls = counts.diagonal()[rows > 0] / rows[rows > 0]
        return {
            "accuracy": float(counts.diagonal().sum() / counts.sum()),
            "class_accuracy": float(recalls.mean()),
        }

    def value_names(self) -> list[str]:
        """Return the names of both."""
        return ["accuracy", "class_accuracy"]
