"""Losses between features before their ReLU, that know on which side of it they are."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import NonNegative, Positive
from razorlite.core.registry import register, suggestion
from razorlite.distill.losses.base import DistillLoss, per_image
from razorlite.distill.scene import Scene


@register()
class OFD(DistillLoss):
    """Squared difference before the ReLU, but for what is dead on both sides.

    The teacher's values are raised to a margin below zero, the expected value of its channel where
    it is negative. An element counts where student > teacher or teacher > 0; the sum over elements
    is divided by images and `mul_factor`. Record both sides before their ReLU: a block's last batch
    norm. The student goes through a `ConvConnector` with `norm: true`.

    Args:
        weight: factor of the loss.
        mul_factor: what the sum is divided by.
        norm: name of the teacher's batch norm whose output is compared; the margin comes from its
            weight and bias. None for no margin.

    Heo et al., A Comprehensive Overhaul of Feature Distillation,
    https://arxiv.org/abs/1904.01866, teacher transform and distance function.
    """

    def __init__(
        self, *, weight: NonNegative = 1.0, mul_factor: Positive = 1000.0, norm: str | None = None
    ) -> None:
        super().__init__(weight=weight)
        self.mul_factor, self.norm = mul_factor, norm

    def known(self, scene: Scene) -> dict[str, Any]:
        """Return the margin of the teacher's batch norm.

        Raises:
            ConfigError: the teacher has no such batch norm.
        """
        if self.norm is None:
            return {}
        return {"margin": relu_margin(_batch_norm(scene.teacher.model, self.norm))}

    def compare(self, student: Tensor, teacher: Tensor, margin: Tensor | None = None) -> Tensor:
        """Return the 0-dim loss of maps (N, C, ...), with a margin (C,) or none."""
        if margin is not None:
            teacher = teacher.maximum(margin.reshape(1, -1, *[1] * (teacher.ndim - 2)))
        counts = (student > teacher) | (teacher > 0)
        total = ((student - teacher).square() * counts).sum()
        return per_image(total, student) / self.mul_factor


def relu_margin(norm: BatchNorm) -> Tensor:
    """Return (C,) expected values of a batch norm's channels where they are negative.

    A channel is taken as normal with mean `bias` and deviation |weight|; where it is negative less
    than once in a thousand times, its margin is three deviations below zero.

    Heo et al., https://arxiv.org/abs/1904.01866, the margin.
    """
    mean, deviation = norm.bias.detach().float(), norm.weight.detach().float().abs()
    standard = -mean / deviation.clamp_min(1e-12)
    below = torch.special.ndtr(standard)
    density = torch.exp(-standard.square() / 2) / (2 * torch.pi) ** 0.5
    expected = mean - deviation * density / below.clamp_min(1e-12)
    return torch.where(below > 0.001, expected, -3 * deviation)


def _batch_norm(teacher: nn.Module, name: str) -> BatchNorm:
    norms = {n: m for n, m in teacher.named_modules() if isinstance(m, BatchNorm)}
    if name not in norms or norms[name].weight is None:
        raise ConfigError(
            f"OFD: the teacher has no batch norm with weights named norm {name!r}"
            f"{suggestion(name, norms)}; set norm: null to do without a margin"
        )
    return norms[name]


@register()
class ActivationBoundary(DistillLoss):
    """Puts neurons on the teacher's side of zero, with a margin (AB).

    (margin - s)^2 where the teacher is active and the student below the margin, (margin + s)^2
    where it is not and the student above -margin; summed over neurons, mean over images. Record
    both sides before their ReLU. A perfect student has no loss only beyond the margin.

    Args:
        weight: factor of the loss; the authors' code has 0.003.
        margin: how far from zero the student's neurons should be.

    Heo et al., Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden
    Neurons, https://arxiv.org/abs/1811.03233, the loss in place of the boundaries' count.
    """

    def __init__(self, *, weight: NonNegative = 0.003, margin: Positive = 1.0) -> None:
        super().__init__(weight=weight)
        self.margin = margin

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the 0-dim loss of two float32 tensors of one shape."""
        signs = torch.where(teacher > 0, 1.0, -1.0)
        return per_image((self.margin - signs * student).clamp_min(0).square().sum(), student)
