"""Image classification."""

import torch
from torch import Tensor, nn

from razorlite.core.registry import register
from razorlite.models.heads.linear_head import ClassifierHead
from razorlite.models.resizing import Resizable
from razorlite.structures import Batch


@register()
class ImageClassifier(Resizable):
    """A backbone, a neck that pools, and a linear head."""

    def __init__(
        self, *, backbone: nn.Module, head: ClassifierHead, neck: nn.Module | None = None
    ) -> None:
        """Take the built parts.

        Args:
            backbone: images to a tuple of maps.
            head: vectors to logits and losses.
            neck: maps to one vector per image.
        """
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised float (N, 3, H, W) images to (N, C) logits."""
        maps = self.backbone(self.resized(images))
        logits: Tensor = self.head(maps if self.neck is None else self.neck(maps))
        return logits

    def loss(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return named scalars to be summed, for (N,) int64 labels."""
        return self.head.loss(self(images), labels)

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Return (N, C) probabilities."""
        probabilities: Tensor = self(batch.inputs).float().softmax(1)
        return probabilities
