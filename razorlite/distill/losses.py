"""What a student learns to match: losses between a student's and a teacher's tensors.

Every loss takes two tensors of one shape, student first, and returns a float32 scalar; under AMP
the numbers are cast up first. Every loss is a mean over images, so that on several processes
with equal batches the exchanged gradient is that of the joined batch (`PKD` alone takes its
statistics over the images of its own process). The teacher's tensor takes no gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.compute import full_precision
from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, NonNegative, Positive
from razorlite.core.registry import register


class DistillLoss(nn.Module):
    """A loss between a student's and a teacher's tensor; subclasses write `compare`.

    Args:
        weight: factor of the loss.
    """

    same_channels = True
    """Whether student and teacher must have equally many channels."""

    def __init__(self, *, weight: NonNegative = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the weighted loss, a float32 scalar, of two tensors (N, C, ...)."""
        with full_precision(student.device):
            return self.weight * self.compare(student.float(), teacher.detach().float())

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the 0-dim loss of two float32 tensors of one shape, without the weight."""
        raise NotImplementedError


@register()
class FeatureMSE(DistillLoss):
    """Mean squared difference over all elements.

    Args:
        weight: factor of the loss.
        normalize: scale the channel vector at each location to unit length first, so that only
            its direction counts; the loss is then at most 4 / C.

    FitNets, https://arxiv.org/abs/1412.6550, eq. 3.
    """

    def __init__(self, *, weight: NonNegative = 1.0, normalize: bool = False) -> None:
        super().__init__(weight=weight)
        self.normalize = normalize

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.normalize:
            student, teacher = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
        return F.mse_loss(student, teacher)


@register()
class ChannelWiseDivergence(DistillLoss):
    """KL divergence between the spatial distributions of each channel.

    Each channel's map is turned into a distribution over its locations by a softmax; the loss is
    tau^2 * KL(teacher || student), averaged over channels and images.

    Args:
        weight: factor of the loss.
        tau: temperature; larger ones look at more of the map.

    Shu et al., Channel-wise Knowledge Distillation for Dense Prediction,
    https://arxiv.org/abs/2011.13256, eq. 3 and 4.
    """

    def __init__(self, *, weight: NonNegative = 1.0, tau: Positive = 1.0) -> None:
        super().__init__(weight=weight)
        self.tau = tau

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        if student.ndim < 3:
            raise ConfigError(
                f"ChannelWiseDivergence compares maps (N, C, H, W), got shape "
                f"{tuple(student.shape)}; use LogitKL for logits or FeatureMSE for vectors"
            )
        return _kl(student.flatten(2), teacher.flatten(2), 2, self.tau).mean()


@register()
class LogitKL(DistillLoss):
    """tau^2 * KL(teacher || student) between softmax class distributions.

    Classification logits (N, C) or dense logits (N, C, H, W), whose locations are averaged. For
    detectors that score each class by a sigmoid, use `SigmoidKL`.

    Args:
        weight: factor of the loss.
        tau: temperature.
        num_classes: classes per anchor, where a dense map holds (N, anchors * num_classes, H, W).

    Hinton et al., Distilling the Knowledge in a Neural Network, https://arxiv.org/abs/1503.02531.
    """

    def __init__(
        self, *, weight: NonNegative = 1.0, tau: Positive = 1.0, num_classes: Count | None = None
    ) -> None:
        super().__init__(weight=weight)
        self.tau = tau
        self.num_classes = num_classes

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        student, teacher = (_per_anchor(t, self.num_classes) for t in (student, teacher))
        return _kl(student, teacher, 1, self.tau).mean()


@register()
class SigmoidKL(DistillLoss):
    """tau^2 * KL(teacher || student) of each class's yes-or-no, summed over classes.

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
        student, teacher = (t.reshape(*t.shape[:2], -1) for t in (student, teacher))
        target = (teacher / self.tau).sigmoid()
        cross = F.binary_cross_entropy_with_logits(student / self.tau, target, reduction="none")
        entropy = F.binary_cross_entropy_with_logits(teacher / self.tau, target, reduction="none")
        divergence = self.tau**2 * (cross - entropy).sum(1)
        weights = teacher.sigmoid().amax(1) ** self.quality
        total = weights.sum(1).clamp_min(torch.finfo(weights.dtype).tiny)
        return ((divergence * weights).sum(1) / total).mean()


@register()
class AttentionTransfer(DistillLoss):
    """Mean squared difference of spatial attention maps; channel counts may differ.

    A location's attention is the mean of |value| ** power over channels; each image's map is
    scaled to unit length.

    Args:
        weight: factor of the loss.
        power: exponent of the absolute value.

    Zagoruyko and Komodakis, Paying More Attention to Attention,
    https://arxiv.org/abs/1612.03928, eq. 2 with the mean square of the authors' code.
    """

    same_channels = False

    def __init__(self, *, weight: NonNegative = 1.0, power: Positive = 2.0) -> None:
        super().__init__(weight=weight)
        self.power = power

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.mse_loss(self._attention(student), self._attention(teacher))

    def _attention(self, maps: Tensor) -> Tensor:
        return F.normalize(maps.abs().pow(self.power).mean(1).flatten(1), dim=1)


@register()
class PKD(DistillLoss):
    """One minus the Pearson correlation of each channel, averaged over channels.

    Both sides' channels are scaled to zero mean and unit deviation over the n values that batch
    and locations have, and half their mean squared difference is taken. As in the authors' code
    the deviation is the unbiased one, so the loss is (n - 1) / n times one minus the correlation.
    Magnitudes do not matter: teacher and student may be detectors of different kinds.

    Args:
        weight: factor of the loss.

    Cao et al., PKD: General Distillation Framework for Object Detectors via Pearson Correlation
    Coefficient, https://arxiv.org/abs/2207.02039, eq. 3 to 5.
    """

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.mse_loss(_standardized(student), _standardized(teacher)) / 2


def _kl(student: Tensor, teacher: Tensor, dim: int, tau: float) -> Tensor:
    """Return tau^2 * KL(teacher || student) of softmaxes over a dimension, which is summed away."""
    log_student = F.log_softmax(student / tau, dim)
    log_teacher = F.log_softmax(teacher / tau, dim)
    return tau**2 * (log_teacher.exp() * (log_teacher - log_student)).sum(dim)


def _standardized(maps: Tensor) -> Tensor:
    """Return (C, N * locations) with zero mean and unit (unbiased) deviation per channel."""
    rows = maps.transpose(0, 1).flatten(1)
    centred = rows - rows.mean(1, keepdim=True)
    variance = centred.square().sum(1, keepdim=True) / max(rows.shape[1] - 1, 1)
    return centred / (variance + 1e-12).sqrt()


def _per_anchor(logits: Tensor, num_classes: int | None) -> Tensor:
    if num_classes is None:
        return logits
    images, channels = logits.shape[:2]
    if channels % num_classes:
        raise ConfigError(
            f"LogitKL: logits have {channels} channels, not a multiple of "
            f"num_classes {num_classes}; set num_classes to the head's number of classes"
        )
    return logits.reshape(images * (channels // num_classes), num_classes, *logits.shape[2:])
