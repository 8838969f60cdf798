"""Losses between what dense heads predict: class scores and distributions of box sides."""

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, NonNegative, Positive, Range
from razorlite.core.registry import register
from razorlite.distill.losses.base import DistillLoss, averaged, kl


@register()
class CrossKDQuality(DistillLoss):
    """Cross-entropy with the teacher's scores, times the distance from them.

    |sigmoid(s) - sigmoid(t)| ** beta times the binary cross-entropy of s with sigmoid(t), summed
    over classes. Class maps (N, C, H, W) or rows (R, C); the mean over rows or locations, or, by
    keyword, `weights` for each and `avg_factor` that their sum is divided by.

    Args:
        weight: factor of the loss.
        beta: exponent of the distance, at least 1.

    Wang et al., CrossKD: Cross-Head Knowledge Distillation for Object Detection,
    https://arxiv.org/abs/2306.11369, section 3.3, the quality focal loss of
    https://arxiv.org/abs/2006.04388, eq. 2, with the teacher's scores as targets.
    """

    def __init__(
        self, *, weight: NonNegative = 1.0, beta: Annotated[float, Range(least=1)] = 1.0
    ) -> None:
        super().__init__(weight=weight)
        self.beta = beta

    def compare(
        self,
        student: Tensor,
        teacher: Tensor,
        weights: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
    ) -> Tensor:
        """Return the 0-dim loss of logits (R, C) or (N, C, ...).

        Args:
            student: logits.
            teacher: logits of the same shape.
            weights: (R,) or (N, ...) of each row; ones by default.
            avg_factor: what the sum is divided by; the number of rows by default.
        """
        target = teacher.sigmoid()
        cross = F.binary_cross_entropy_with_logits(student, target, reduction="none")
        distance = (student.sigmoid() - target).abs() ** self.beta
        return averaged((distance * cross).sum(1), weights, avg_factor)


@register()
class LD(DistillLoss):
    """tau^2 * KL(teacher || student) of box sides' distributions (GFL).

    Maps (N, 4 * bins, H, W) or rows (R, 4 * bins); the mean over the four sides, and over rows or
    locations, or, by keyword, `weights` for each and `avg_factor` that their sum is divided by.

    Args:
        weight: factor of the loss.
        bins: values of a side's distribution, the head's reg_max + 1.
        tau: temperature.
        mean_over_bins: divide by the number of bins, too, as the authors' code does with its
            weight of 0.25.

    Zheng et al., Localization Distillation for Dense Object Detection,
    https://arxiv.org/abs/2102.12252, the localisation distillation loss.
    """

    def __init__(
        self,
        *,
        weight: NonNegative = 1.0,
        bins: Count,
        tau: Positive = 10.0,
        mean_over_bins: bool = False,
    ) -> None:
        super().__init__(weight=weight)
        self.bins, self.tau, self.mean_over_bins = bins, tau, mean_over_bins

    def check(self, student: Tensor, teacher: Tensor) -> None:
        """Refuse what does not have 4 * bins channels, (R, 4 * bins) or (N, 4 * bins, ...).

        Raises:
            ConfigError: as described.
        """
        if student.shape[1] != 4 * self.bins:
            raise ConfigError(
                f"LD: the box sides' logits have {student.shape[1]} channels, not 4 * bins = "
                f"{4 * self.bins}; set bins to the head's reg_max + 1"
            )

    def compare(
        self,
        student: Tensor,
        teacher: Tensor,
        weights: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
    ) -> Tensor:
        """Return the 0-dim loss of logits (R, 4 * bins) or (N, 4 * bins, ...).

        Args:
            student: logits.
            teacher: logits of the same shape.
            weights: (R,) or (N, ...) of each row; ones by default.
            avg_factor: what the sum is divided by; the number of rows by default.
        """
        ours, theirs = (side.unflatten(1, (4, self.bins)) for side in (student, teacher))
        rows = kl(ours, theirs, 2, self.tau).mean(1)
        return averaged(rows / (self.bins if self.mean_over_bins else 1), weights, avg_factor)
