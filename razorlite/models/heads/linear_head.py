"""The head of a classifier."""

import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.ranges import Count, ShareBelowOne
from razorlite.core.registry import register
from razorlite.models.heads.class_head import ClassHead, ClassLayer


class ClassifierHead(ClassHead):
    """Base of heads that classify images."""

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, in_channels) to (N, num_classes) logits."""
        raise NotImplementedError

    def loss(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return named scalars to be summed, for (N,) int64 labels."""
        raise NotImplementedError


@register()
class LinearHead(ClassifierHead):
    """One linear layer; cross entropy with label smoothing."""

    class_layers = (ClassLayer("fc"),)

    def __init__(
        self,
        *,
        num_classes: Count,
        in_channels: Count,
        label_smoothing: ShareBelowOne = 0.0,
        dropout: ShareBelowOne = 0.0,
    ) -> None:
        """Build the layer.

        Args:
            num_classes: how many classes there are.
            in_channels: length of the neck's vectors.
            label_smoothing: share of each target that is spread evenly over all classes,
                https://arxiv.org/abs/1512.00567.
            dropout: share of the inputs that is dropped in training.
        """
        super().__init__()
        self.num_classes, self.label_smoothing = num_classes, label_smoothing
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.fc = nn.Linear(in_channels, num_classes)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, in_channels) to (N, num_classes) logits."""
        logits: Tensor = self.fc(self.dropout(features))
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return `loss_cls`, the mean over the batch, for (N,) int64 labels."""
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)
        return {"loss_cls": loss}
