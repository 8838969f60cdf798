"""Batch-norm statistics of the path that is set."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from razorlite.space.mutable import active_modules


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Set the statistics of the active batch norms to the mean over some batches.

    In a supernet, statistics belong to the paths sampled last; a path scored with them scores
    badly. Only batch norms of the path that is set are touched, all else runs in evaluation mode,
    and every module's mode is restored. Statistics are reset first, so that the same batches give
    the same result each time.

    Args:
        model: called as `model(images)`.
        batches: images (N, 3, H, W), normalised as in training, on the model's device. Where there
            are none, nothing changes.

    Returns:
        How many batches there were.

    Single Path One-Shot NAS, https://arxiv.org/abs/1904.00420, section 3.4.
    """
    norms = [m for m in active_modules(model) if isinstance(m, _BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    modes = {module: module.training for module in model.modules()}
    momenta = [norm.momentum for norm in norms]
    count = 0
    try:
        model.eval()
        for images in batches:
            if not count:
                _start(norms)
            model(images)
            count += 1
    finally:
        for module, mode in modes.items():
            module.training = mode
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return count


def _start(norms: list[_BatchNorm]) -> None:
    """Forget the statistics; without a momentum the mean of what follows is taken."""
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.training = True
