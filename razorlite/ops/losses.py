"""Loss functions of detection; sums, for the caller to normalise."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_LANES = 32  # so that parts begin where a processor's vectors do, and give the whole's digits
_CACHED = 2**17 // _LANES  # numbers of a tensor that are worked on at a time, in these


def sigmoid_focal_loss_sum(
    logits: Tensor, labels: Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Return the focal loss summed over all rows and classes.

    Equal to `torchvision.ops.sigmoid_focal_loss` on one-hot targets, in a third of its passes
    over memory: every entry is taken as background, then the few others are put right, and the
    gradient is worked out on the way.

    Args:
        logits: (N, C).
        labels: (N,) int64: the class, C for background, negative to leave the row out.
        alpha: weight of the object entries; background entries have 1 - alpha.
        gamma: how fast the weight of well classified entries falls.

    RetinaNet, https://arxiv.org/abs/1708.02002, eq. 5.
    """
    total: Tensor = _FocalSum.apply(logits.float(), labels, alpha, gamma)
    return total


class _FocalSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, alpha: float, gamma: float) -> Tensor:
        loss, slope = _focal_of_all(logits, labels >= 0, 1 - alpha, gamma)
        rows = ((labels >= 0) & (labels < logits.shape[1])).nonzero().squeeze(1)
        entries = (rows, labels[rows])
        own_loss, own_slope = _focal_of_background(-logits[entries], gamma)
        loss[entries] = own_loss.mul_(alpha)
        slope[entries] = own_slope.mul_(-alpha)
        ctx.save_for_backward(slope)
        return loss.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * grad, None, None, None


def _focal_of_all(
    logits: Tensor, used: Tensor, weight: float, gamma: float
) -> tuple[Tensor, Tensor]:
    """Return the weighted loss of all entries as background, and its derivative; both (N, C).

    It goes through so many rows at a time as stay in a processor's cache.

    Args:
        logits: (N, C).
        used: (N,) bool; the other rows give 0.
        weight: of every entry.
        gamma: as in `sigmoid_focal_loss_sum`.
    """
    loss, slope = torch.empty_like(logits), torch.empty_like(logits)
    rows = len(logits) if logits.is_cuda else max(_CACHED // logits.shape[1], 1) * _LANES
    for part in zip(*(t.split(max(rows, 1)) for t in (logits, used, loss, slope)), strict=True):
        values, counts, *results = part
        for value, result in zip(_focal_of_background(values, gamma), results, strict=True):
            torch.mul(value.mul_(weight), counts[:, None], out=result)
    return loss, slope


def _focal_of_background(logits: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Return p^gamma * softplus(x) with p = sigmoid(x), and its derivative."""
    chance = logits.sigmoid()
    entropy = F.softplus(logits)
    focus = chance.square() if gamma == 2 else chance.pow(gamma)
    # d/dx = p^gamma * (gamma * (1 - p) * softplus(x) + p)
    slope = ((1 - chance) * entropy).mul_(gamma).add_(chance).mul_(focus)
    return entropy.mul_(focus), slope


def smooth_l1(pred: Tensor, target: Tensor, beta: float = 1.0) -> Tensor:
    """Return the loss in the inputs' shape: squared below `beta`, linear above; L1 with beta 0."""
    if beta == 0:
        return (pred - target).abs()
    return F.smooth_l1_loss(pred, target, reduction="none", beta=beta)


def quality_focal_loss_sum(
    logits: Tensor, labels: Tensor, quality: Tensor, beta: float = 2.0
) -> Tensor:
    """Return the focal loss towards a quality in [0, 1] instead of 1, summed.

    Args:
        logits: (N, C).
        labels: (N,) int64: the class, C for background, negative to leave the row out.
        quality: (K,) what the objects' own classes should score, in the rows' order.
        beta: how fast the weight of well classified entries falls.

    GFL, https://arxiv.org/abs/2006.04388, eq. 1.
    """
    background = sigmoid_focal_loss_sum(logits, labels, alpha=0.0, gamma=beta)
    rows = ((labels >= 0) & (labels < logits.shape[1])).nonzero().squeeze(1)
    own = logits[rows, labels[rows]].float()
    entropy = F.binary_cross_entropy_with_logits(own, quality, reduction="none")
    return background + (entropy * (quality - own.sigmoid()).abs().pow(beta)).sum()


def distribution_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the (N,) cross entropies with the two integers around each target.

    Args:
        logits: (N, n + 1) over the integers 0 to n.
        target: (N,) in [0, n).

    GFL, https://arxiv.org/abs/2006.04388, eq. 2.
    """
    low = target.long()
    share = target - low
    chances = logits.float().log_softmax(1)
    below = chances.gather(1, low[:, None])[:, 0]
    above = chances.gather(1, low[:, None] + 1)[:, 0]
    return -(below * (1 - share) + above * share)


def dice_loss(logits: Tensor, target: Tensor, eps: float = 5e-6) -> Tensor:
    """Return the (N,) losses 1 - 2 sum(p t) / (sum(p^2) + sum(t^2)) with p = sigmoid(logits).

    Args:
        logits: (N, ...).
        target: (N, ...), 0 or 1.
        eps: added to both sums of squares.

    V-Net, https://arxiv.org/abs/1606.04797, section 3.
    """
    chance, target = logits.float().sigmoid().flatten(1), target.float().flatten(1)
    both = (chance * target).sum(1)
    squares = chance.square().sum(1) + target.square().sum(1) + 2 * eps
    return 1 - 2 * both / squares
