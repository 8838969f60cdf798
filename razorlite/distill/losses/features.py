"""Losses between feature maps that need nothing but the two maps."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from razorlite.core.ranges import NonNegative, Positive
from razorlite.core.registry import register
from razorlite.distill.losses.base import DistillLoss, kl, per_image, require_maps


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
        """Return the 0-dim loss of two float32 tensors of one shape."""
        if self.normalize:
            student, teacher = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
        return F.mse_loss(student, teacher)


@register()
class FeatureL2(DistillLoss):
    """Sum of squared differences per image, or the batch's distance.

    Args:
        weight: factor of the loss.
        normalize: scale all of an image's features to unit length first; the loss is then at
            most 4.
        root: the root of the sum over the batch, in the place of the mean over images.

    The summed form of FitNets, https://arxiv.org/abs/1412.6550, eq. 3.
    """

    def __init__(
        self, *, weight: NonNegative = 1.0, normalize: bool = True, root: bool = False
    ) -> None:
        super().__init__(weight=weight)
        self.normalize, self.root = normalize, root

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the 0-dim loss of two float32 tensors of one shape."""
        student, teacher = student.flatten(1), teacher.flatten(1)
        if self.normalize:
            student, teacher = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
        if self.root:
            distance: Tensor = torch.linalg.vector_norm(student - teacher)
            return distance
        return per_image((student - teacher).square().sum(), student)


@register()
class ChannelWiseDivergence(DistillLoss):
    """KL divergence between the spatial distributions of each channel.

    Each channel's map is turned into a distribution over its locations by a softmax; the loss is
    tau^2 * KL(teacher || student), averaged over channels and images.

    Args:
        weight: factor of the loss.
        tau: temperature; larger ones look at more of the map.
        over: what each distribution runs over: the "locations" of a channel, as in the paper, or
            the "channels" at a location.

    Shu et al., Channel-wise Knowledge Distillation for Dense Prediction,
    https://arxiv.org/abs/2011.13256, the channel-wise loss.
    """

    def __init__(
        self,
        *,
        weight: NonNegative = 1.0,
        tau: Positive = 1.0,
        over: Literal["locations", "channels"] = "locations",
    ) -> None:
        super().__init__(weight=weight)
        self.tau, self.over = tau, over

    def check(self, student: Tensor, teacher: Tensor) -> None:
        """Refuse what are no maps (N, C, H, W).

        Raises:
            ConfigError: as described.
        """
        require_maps(self, student, "LogitKL for logits or FeatureMSE for vectors")

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the 0-dim loss of two float32 tensors of one shape."""
        dim = 2 if self.over == "locations" else 1
        return kl(student.flatten(2), teacher.flatten(2), dim, self.tau).mean()


@register()
class AttentionTransfer(DistillLoss):
    """Mean squared difference of spatial attention; channels may differ.

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
        """Return the 0-dim loss of two float32 tensors of one shape."""
        return F.mse_loss(self._attention(student), self._attention(teacher))

    def _attention(self, maps: Tensor) -> Tensor:
        return F.normalize(maps.abs().pow(self.power).mean(1).flatten(1), dim=1)


@register()
class PKD(DistillLoss):
    """One minus the Pearson correlation of each channel, a mean over channels.

    Both sides' channels are scaled to zero mean and unit deviation over the n values that batch
    and locations have, and half their mean squared difference is taken. As in the authors' code
    the deviation is the unbiased one, so the loss is (n - 1) / n times one minus the correlation.
    Magnitudes do not matter: teacher and student may be detectors of different kinds.

    Args:
        weight: factor of the loss.

    Cao et al., PKD: General Distillation Framework for Object Detectors via Pearson Correlation
    Coefficient, https://arxiv.org/abs/2207.02039, the PKD loss.
    """

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the 0-dim loss of two float32 tensors of one shape."""
        loss: Tensor = _Uncorrelated.apply(student, teacher)
        return loss


class _Uncorrelated(torch.autograd.Function):
    """Half the mean squared difference of two (N, C, ...) tensors with standardised channels.

    From three sums of products for each channel, with a gradient in closed form: a fraction of the
    passes over maps that the formula as it stands takes.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the 0-dim loss; the teacher gets no gradient."""
        over = (0, *range(2, student.ndim))
        free = max(student.numel() // max(student.shape[1], 1) - 1, 1)
        ours, theirs = (maps - maps.mean(over, keepdim=True) for maps in (student, teacher))
        pairs = ((ours, ours), (theirs, theirs), (ours, theirs))
        own, other, both = ((one * two).sum(over, keepdim=True) for one, two in pairs)
        scales = [(squares / free + 1e-12).rsqrt() for squares in (own, other)]
        own, other = own * scales[0] * scales[0], other * scales[1] * scales[1]
        both = both * scales[0] * scales[1]
        ctx.save_for_backward(ours, theirs, *scales, (own - both) / free)
        return (own + other - 2 * both).sum() / (2 * student.numel())

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient by the student's tensor."""
        ours, theirs, own, other, lean = ctx.saved_tensors
        factor = own * (gradient / ours.numel())
        return torch.addcmul(
            ours * (factor * own * (1 - lean)), theirs, factor * other, value=-1
        ), None
