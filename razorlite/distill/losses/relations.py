"""Losses between the relations that the images of a batch have to each other."""

import torch
import torch.nn.functional as F
from torch import Tensor

from razorlite.core.ranges import NonNegative
from razorlite.core.registry import register
from razorlite.distill.losses.base import DistillLoss


class _RelationalLoss(DistillLoss):
    """A loss between relations of images; features (N, ...) are flattened, sizes may differ.

    Args:
        weight: factor of the loss.
        normalize: scale each image's features to unit length first.
    """

    same_channels = False

    def __init__(self, *, weight: NonNegative = 1.0, normalize: bool = True) -> None:
        super().__init__(weight=weight)
        self.normalize = normalize

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the 0-dim loss of two float32 tensors of one shape."""
        ours, theirs = (self._relations(self._vectors(t)) for t in (student, teacher))
        return F.smooth_l1_loss(ours, theirs)

    def _vectors(self, features: Tensor) -> Tensor:
        vectors = features.flatten(1)
        return F.normalize(vectors, dim=1) if self.normalize else vectors

    def _relations(self, vectors: Tensor) -> Tensor:
        raise NotImplementedError


@register()
class RKDDistance(_RelationalLoss):
    """Smooth L1 of distances between a batch's images, in their mean.

    Distances of features (N, ...) are divided by their mean over pairs of different images; the
    loss is the mean over all N^2 pairs. Needs several images in a batch; channels may differ.

    Args:
        weight: factor of the loss; typically 25.
        normalize: scale each image's features to unit length first.

    Park et al., Relational Knowledge Distillation,
    https://arxiv.org/abs/1904.05068, distance-wise loss.
    """

    def _relations(self, vectors: Tensor) -> Tensor:
        distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
        return distances * (distances > 0).sum() / distances.sum().clamp_min(1e-12)


@register()
class RKDAngle(_RelationalLoss):
    """Smooth L1 of the angles that a batch's images form by threes.

    Mean over all N^3 triples. Needs at least three images in a batch, and N^2 times the memory of
    one image's features: use it on embeddings. Channels may differ.

    Args:
        weight: factor of the loss; typically 50.
        normalize: scale each image's features to unit length first.

    Park et al., Relational Knowledge Distillation,
    https://arxiv.org/abs/1904.05068, angle-wise loss.
    """

    def _relations(self, vectors: Tensor) -> Tensor:
        towards = F.normalize(vectors[None] - vectors[:, None], dim=2)
        return towards @ towards.transpose(1, 2)
