"""Losses that a configuration can name.

Each returns a scalar: the sum over all entries, times `loss_weight`, over `avg_factor`.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.ranges import NonNegative, Positive, Share, ShareBelowOne
from razorlite.core.registry import register
from razorlite.ops import losses
from razorlite.ops.boxes import paired_ciou, paired_diou, paired_giou, paired_iou

AvgFactor = Tensor | float


@register()
class FocalLoss(nn.Module):
    """Sigmoid focal loss, https://arxiv.org/abs/1708.02002."""

    def __init__(
        self, *, gamma: NonNegative = 2.0, alpha: Share = 0.25, loss_weight: NonNegative = 1.0
    ) -> None:
        """See `razorlite.ops.losses.sigmoid_focal_loss_sum`."""
        super().__init__()
        self.gamma, self.alpha, self.loss_weight = gamma, alpha, loss_weight

    def forward(self, logits: Tensor, labels: Tensor, avg_factor: AvgFactor) -> Tensor:
        """Take (N, C) logits and (N,) labels: C is background, negative rows do not count."""
        total = losses.sigmoid_focal_loss_sum(logits, labels, self.alpha, self.gamma)
        return self.loss_weight * total / avg_factor


class _BoxLoss(nn.Module):
    def __init__(self, loss_weight: NonNegative) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(
        self, pred: Tensor, target: Tensor, avg_factor: AvgFactor, weight: Tensor | None = None
    ) -> Tensor:
        """Take (N, 4) predictions and targets, and (N,) weights or none."""
        loss = self.each(pred.float(), target)
        if weight is not None:
            loss = loss * (weight if loss.dim() == 1 else weight[:, None])
        return self.loss_weight * loss.sum() / avg_factor

    def each(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every box, (N,) or (N, 4)."""
        raise NotImplementedError


@register()
class IoULoss(_BoxLoss):
    """Minus the logarithm of the IoU of boxes, or 1 minus it.

    https://arxiv.org/abs/1608.01471
    """

    decoded = True

    def __init__(
        self,
        *,
        mode: Literal["log", "linear", "square"] = "log",
        eps: Positive = 1e-6,
        loss_weight: NonNegative = 1.0,
    ) -> None:
        """Choose -log(IoU), 1 - IoU or 1 - IoU^2; IoU counts as `eps` at least."""
        super().__init__(loss_weight)
        self.mode, self.eps = mode, eps

    def each(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the (N,) losses of (N, 4) boxes."""
        iou = paired_iou(pred, target).clamp(min=self.eps)
        if self.mode == "log":
            return -iou.log()
        return 1 - (iou if self.mode == "linear" else iou**2)


class _OverlapLoss(_BoxLoss):
    decoded = True

    def __init__(self, *, eps: Positive = 1e-6, loss_weight: NonNegative = 1.0) -> None:
        """Take what is divided by as `eps` at least, in pixels or square pixels."""
        super().__init__(loss_weight)
        self.eps = eps


@register()
class GIoULoss(_OverlapLoss):
    """1 minus the generalised IoU of boxes, https://arxiv.org/abs/1902.09630."""

    def each(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the (N,) losses of (N, 4) boxes."""
        return 1 - paired_giou(pred, target, self.eps)


@register()
class DIoULoss(_OverlapLoss):
    """1 minus the distance-IoU of boxes, https://arxiv.org/abs/1911.08287."""

    def each(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the (N,) losses of (N, 4) boxes."""
        return 1 - paired_diou(pred, target, self.eps)


@register()
class CIoULoss(_OverlapLoss):
    """1 minus the complete IoU of boxes, https://arxiv.org/abs/1911.08287."""

    def each(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the (N,) losses of (N, 4) boxes."""
        return 1 - paired_ciou(pred, target, self.eps)


@register()
class L1Loss(_BoxLoss):
    """Absolute difference of encoded boxes."""

    decoded = False

    def __init__(self, *, loss_weight: NonNegative = 1.0) -> None:
        """Build the loss."""
        super().__init__(loss_weight)

    def each(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the (N, 4) losses of (N, 4) deltas."""
        return (pred - target).abs()


@register()
class SmoothL1Loss(_BoxLoss):
    """Absolute difference of encoded boxes, squared where it is below `beta`."""

    decoded = False

    def __init__(self, *, beta: NonNegative = 1.0, loss_weight: NonNegative = 1.0) -> None:
        """Choose where the square ends."""
        super().__init__(loss_weight)
        self.beta = beta

    def each(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the (N, 4) losses of (N, 4) deltas."""
        return losses.smooth_l1(pred, target, self.beta)


@register()
class BinaryCrossEntropy(nn.Module):
    """Cross entropy of sigmoid logits with targets in [0, 1]."""

    def __init__(self, *, loss_weight: NonNegative = 1.0) -> None:
        """Build the loss."""
        super().__init__()
        self.loss_weight = loss_weight

    def forward(
        self, logits: Tensor, targets: Tensor, avg_factor: AvgFactor, weight: Tensor | None = None
    ) -> Tensor:
        """Take logits, targets and weights of one shape."""
        total = F.binary_cross_entropy_with_logits(logits.float(), targets, weight, reduction="sum")
        return self.loss_weight * total / avg_factor


@register()
class CrossEntropy(nn.Module):
    """Cross entropy of softmax logits, with label smoothing (https://arxiv.org/abs/1512.00567)."""

    def __init__(
        self, *, label_smoothing: ShareBelowOne = 0.0, loss_weight: NonNegative = 1.0
    ) -> None:
        """Spread `label_smoothing` of each target evenly over all classes."""
        super().__init__()
        self.label_smoothing, self.loss_weight = label_smoothing, loss_weight

    def forward(
        self, logits: Tensor, labels: Tensor, avg_factor: AvgFactor, weight: Tensor | None = None
    ) -> Tensor:
        """Take (N, C) logits, (N,) labels and (N,) weights or none."""
        each = F.cross_entropy(
            logits.float(), labels, reduction="none", label_smoothing=self.label_smoothing
        )
        total = each.sum() if weight is None else torch.dot(each, weight)
        return self.loss_weight * total / avg_factor


@register()
class ObjectnessLoss(nn.Module):
    """Binary cross entropy of one logit per row with "is an object"."""

    def __init__(self, *, loss_weight: NonNegative = 1.0) -> None:
        """Build the loss."""
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, labels: Tensor, avg_factor: AvgFactor) -> Tensor:
        """Take (N, 1) logits and (N,) labels: 0 object, 1 background, negative does not count."""
        used = (labels >= 0).nonzero().squeeze(1)
        chosen, objects = logits[used, 0].float(), (labels[used] == 0).float()
        total = F.binary_cross_entropy_with_logits(chosen, objects, reduction="sum")
        return self.loss_weight * total / avg_factor


@register()
class QualityFocalLoss(nn.Module):
    """Focal loss towards the quality of a box, https://arxiv.org/abs/2006.04388."""

    def __init__(self, *, beta: NonNegative = 2.0, loss_weight: NonNegative = 1.0) -> None:
        """See `razorlite.ops.losses.quality_focal_loss_sum`."""
        super().__init__()
        self.beta, self.loss_weight = beta, loss_weight

    def forward(
        self, logits: Tensor, labels: Tensor, quality: Tensor, avg_factor: AvgFactor
    ) -> Tensor:
        """Take (N, C) logits, (N,) labels and the (K,) qualities of the object rows."""
        total = losses.quality_focal_loss_sum(logits, labels, quality, self.beta)
        return self.loss_weight * total / avg_factor


@register()
class DistributionFocalLoss(nn.Module):
    """Cross entropy with the integers around a distance, https://arxiv.org/abs/2006.04388."""

    def __init__(self, *, loss_weight: NonNegative = 0.25) -> None:
        """Build the loss."""
        super().__init__()
        self.loss_weight = loss_weight

    def forward(
        self, logits: Tensor, targets: Tensor, avg_factor: AvgFactor, weight: Tensor | None = None
    ) -> Tensor:
        """Take (N, n + 1) logits, (N,) targets in [0, n) and (N,) weights or none."""
        each = losses.distribution_focal_loss(logits, targets)
        total = each.sum() if weight is None else torch.dot(each, weight)
        return self.loss_weight * total / avg_factor


@register()
class DiceLoss(nn.Module):
    """What two masks do not share, https://arxiv.org/abs/1606.04797."""

    def __init__(self, *, eps: Positive = 5e-6, loss_weight: NonNegative = 1.0) -> None:
        """See `razorlite.ops.losses.dice_loss`."""
        super().__init__()
        self.eps, self.loss_weight = eps, loss_weight

    def forward(self, logits: Tensor, targets: Tensor, avg_factor: AvgFactor) -> Tensor:
        """Take (N, H, W) logits and targets."""
        return self.loss_weight * losses.dice_loss(logits, targets, self.eps).sum() / avg_factor
