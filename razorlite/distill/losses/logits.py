"""Losses between the class logits of classifiers and of dense heads."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, NonNegative, Positive
from razorlite.core.registry import register
from razorlite.distill.losses.base import (
    DistillLoss,
    image_labels,
    kl,
    kl_terms,
    per_image,
)
from razorlite.distill.scene import Scene


@register()
class LogitKL(DistillLoss):
    """tau^2 * KL(teacher || student) between softmax class distributions (KD).

    Classification logits (N, C) or dense logits (N, C, H, W), whose locations are averaged. For
    detectors that score each class by a sigmoid, use `SigmoidKL`.

    Args:
        weight: factor of the loss.
        tau: temperature.
        num_classes: classes per anchor, where a dense map holds (N, anchors * num_classes, H, W).
        reduction: of the sum over classes: "location", the mean over images and locations;
            "batchmean", the sum over locations, mean over images; "sum" over all. Or "mean" over
            all elements, classes too.

    Hinton et al., Distilling the Knowledge in a Neural Network, https://arxiv.org/abs/1503.02531,
    eq. 1 and section 2.
    """

    def __init__(
        self,
        *,
        weight: NonNegative = 1.0,
        tau: Positive = 1.0,
        num_classes: Count | None = None,
        reduction: Literal["location", "batchmean", "mean", "sum"] = "location",
    ) -> None:
        super().__init__(weight=weight)
        self.tau, self.num_classes, self.reduction = tau, num_classes, reduction

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the 0-dim loss of two float32 tensors of one shape."""
        images, dim = student.shape[0], 1
        if self.num_classes is not None:
            dim = 2
            student, teacher = (
                _per_anchor(logits, self.num_classes) for logits in (student, teacher)
            )
        terms = kl_terms(student, teacher, dim, self.tau)
        if self.reduction == "location":
            return terms.sum(dim).mean()
        if self.reduction == "mean":
            return terms.mean()
        return terms.sum() / (max(images, 1) if self.reduction == "batchmean" else 1)


def _per_anchor(logits: Tensor, num_classes: int) -> Tensor:
    """Return (N, anchors, num_classes, ...) of logits (N, anchors * num_classes, ...)."""
    if logits.shape[1] % num_classes:
        raise ConfigError(
            f"LogitKL: logits have {logits.shape[1]} channels, not a multiple of num_classes "
            f"{num_classes}; set num_classes to the head's number of classes"
        )
    split: Tensor = logits.unflatten(1, (-1, num_classes))
    return split


@register()
class SigmoidKL(DistillLoss):
    """tau^2 * KL(teacher || student) of each class's yes-or-no, summed.

    For class maps (N, C, H, W) of detectors trained with sigmoid losses. Each image's locations
    are averaged with weight q ** quality, where q is the teacher's highest class probability
    there: 0 counts every location alike, 1 or more looks where the teacher sees something.

    Args:
        weight: factor of the loss.
        tau: temperature.
        quality: exponent of the teacher's confidence in a location's weight, >= 0.
    """

    def __init__(
        self, *, weight: NonNegative = 1.0, tau: Positive = 1.0, quality: NonNegative = 0.0
    ) -> None:
        super().__init__(weight=weight)
        self.tau = tau
        self.quality = quality

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the 0-dim loss of two float32 tensors of one shape."""
        student, teacher = (t.reshape(*t.shape[:2], -1) for t in (student, teacher))
        target = (teacher / self.tau).sigmoid()
        cross = F.binary_cross_entropy_with_logits(student / self.tau, target, reduction="none")
        entropy = F.binary_cross_entropy_with_logits(teacher / self.tau, target, reduction="none")
        divergence = self.tau**2 * (cross - entropy).sum(1)
        weights = teacher.sigmoid().amax(1) ** self.quality
        total = weights.sum(1).clamp_min(torch.finfo(weights.dtype).tiny)
        return ((divergence * weights).sum(1) / total).mean()


class _LabelledLoss(DistillLoss):
    """A loss between class logits (N, C) that needs each image's label."""

    needs = "labels"

    def check(self, student: Tensor, teacher: Tensor) -> None:
        """Refuse what are no logits (N, C) of at least 2 classes.

        Raises:
            ConfigError: as described.
        """
        if student.ndim != 2 or student.shape[1] < 2:
            raise ConfigError(
                f"{type(self).__name__} compares class logits (N, C) of at least 2 classes, got "
                f"shape {tuple(student.shape)}; use LogitKL or SigmoidKL for dense maps"
            )

    def known(self, scene: Scene) -> dict[str, Any]:
        """Return the labels, (N,) int64.

        Raises:
            ConfigError: the images have no label each.
        """
        return {"labels": image_labels(self, scene)}


@register()
class DKD(_LabelledLoss):
    """KD in two parts: target class against the rest, and the others' shares.

    alpha * tau^2 * KL of (target, rest) + beta * tau^2 * KL of the others' softmax, both
    teacher || student, means over images. With beta equal to the teacher's probability of the rest
    it is `LogitKL`. Needs logits (N, C) and labels: of a classifier's batch, or of assigned rows
    by keyword, `loss(student, teacher, labels=labels)`.

    Args:
        weight: factor of the loss.
        tau: temperature.
        alpha: weight of the target class's part.
        beta: weight of the other classes' part.

    Zhao et al., Decoupled Knowledge Distillation, https://arxiv.org/abs/2203.08679, the DKD loss.
    """

    def __init__(
        self,
        *,
        weight: NonNegative = 1.0,
        tau: Positive = 4.0,
        alpha: NonNegative = 1.0,
        beta: NonNegative = 8.0,
    ) -> None:
        super().__init__(weight=weight)
        self.tau, self.alpha, self.beta = tau, alpha, beta

    def compare(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """Return the 0-dim loss of logits (N, C) with labels (N,) int64 from 0 to C - 1."""
        sides = [_decoupled(logits / self.tau, labels) for logits in (student, teacher)]
        (target, others), (true_target, true_others) = sides
        binary = kl(target, true_target, 1, 1.0)
        rest = kl(others, true_others, 1, 1.0)
        total = self.tau**2 * (self.alpha * binary + self.beta * rest).sum()
        return per_image(total, student)


def _decoupled(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (N, 2) of target and rest, and (N, C - 1) of the other classes."""
    chosen = F.one_hot(labels, logits.shape[1]).bool()
    others = logits[~chosen].reshape(len(logits), -1)
    target = logits.gather(1, labels[:, None])
    return torch.cat([target, others.logsumexp(1, keepdim=True)], 1), others


@register()
class WSLD(_LabelledLoss):
    """Soft labels, each image weighted by how much the student still errs.

    tau^2 times the cross-entropy of softened logits, times 1 - exp(-L_s / L_t), where L_s and L_t
    are the student's and the teacher's cross-entropy with the label: images that the student knows
    better than the teacher count less. Needs logits (N, C) and labels. It is a cross-entropy: a
    perfect student has a loss, but no gradient.

    Args:
        weight: factor of the loss.
        tau: temperature.

    Zhou et al., Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff
    Perspective, https://arxiv.org/abs/2102.00650, weighted soft labels.
    """

    def __init__(self, *, weight: NonNegative = 1.0, tau: Positive = 2.0) -> None:
        super().__init__(weight=weight)
        self.tau = tau

    def compare(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """Return the 0-dim loss of logits (N, C) with labels (N,) int64 from 0 to C - 1."""
        own, other = (
            F.cross_entropy(t.detach(), labels, reduction="none") for t in (student, teacher)
        )
        shares = 1 - torch.exp(-own / (other + 1e-7))
        soft = (teacher / self.tau).softmax(1)
        entropy = F.cross_entropy(student / self.tau, soft, reduction="none")
        return self.tau**2 * (shares * entropy).mean()


@register()
class DIST(DistillLoss):
    """One minus the correlation of probabilities, along classes and images.

    beta * (1 - correlation of each image's probabilities) + gamma * (1 - correlation of each
    class's probabilities over the batch), times tau^2; magnitudes do not matter, so that a much
    stronger teacher does not hurt. Logits (N, C), or dense ones (N, C, H, W), whose locations
    count as images.

    Args:
        weight: factor of the loss.
        tau: temperature.
        beta: weight of the part along classes.
        gamma: weight of the part along images; needs several in a batch.

    Huang et al., Knowledge Distillation from A Stronger Teacher,
    https://arxiv.org/abs/2205.10536, inter- and intra-class relations.
    """

    def __init__(
        self,
        *,
        weight: NonNegative = 1.0,
        tau: Positive = 1.0,
        beta: NonNegative = 1.0,
        gamma: NonNegative = 1.0,
    ) -> None:
        super().__init__(weight=weight)
        self.tau, self.beta, self.gamma = tau, beta, gamma

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the 0-dim loss of two float32 tensors of one shape."""
        ours, theirs = (_rows(t / self.tau).softmax(1) for t in (student, teacher))
        along_classes = 1 - _correlation(ours, theirs).mean()
        along_images = 1 - _correlation(ours.T, theirs.T).mean()
        return self.tau**2 * (self.beta * along_classes + self.gamma * along_images)


def _rows(logits: Tensor) -> Tensor:
    """Return (N * locations, C) of logits (N, C, ...)."""
    return logits.movedim(1, -1).flatten(0, -2)


def _correlation(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return (R,) Pearson correlations of the rows of two (R, K) tensors."""
    ours, theirs = (t - t.mean(1, keepdim=True) for t in (ours, theirs))
    lengths = ours.square().sum(1) * theirs.square().sum(1)
    return (ours * theirs).sum(1) / (lengths + 1e-16).sqrt()
