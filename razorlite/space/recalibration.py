"""Batch-norm statistics of the path that is set."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as nn_functional
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from razorlite.space.mutable import active_modules
from razorlite.structures import Inputs

Statistics = dict[_BatchNorm, dict[str, Tensor]]


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Inputs]) -> int:
    """Set the statistics of the active batch norms to the mean over some batches.

    In a supernet, statistics belong to the paths sampled last; a path scored with them scores
    badly. Only batch norms of the path that is set are touched, all else runs in evaluation mode,
    and every module's mode is restored. Statistics are reset first, so that the same batches give
    the same result each time. A norm that runs several times takes the mean over all of its calls.

    Norms that training leaves alone stay as they are: those which `model.train()` leaves in
    evaluation mode (frozen stages, `norm_eval`), those whose parameters are frozen, and those that
    do not run. Each process takes its own batches, synchronised norms included.

    Args:
        model: called as `model(inputs)`.
        batches: inputs such as images (N, 3, H, W), normalised as in training, on the model's
            device. Where there are none, nothing changes.

    Returns:
        How many batches there were.

    Single Path One-Shot NAS, https://arxiv.org/abs/1904.00420, section 3.4.
    """
    norms = _trained_norms(model)
    before = _statistics(norms)
    count = 0
    with _kept_modes(model), _measuring(model, norms):
        try:
            for inputs in batches:
                if not count:
                    _forget(norms)
                model(inputs)
                count += 1
        except BaseException:
            _restore(before)
            raise
    _restore({norm: before[norm] for norm in norms if not norm.num_batches_tracked})
    return count


@contextmanager
def kept_statistics(model: nn.Module) -> Iterator[None]:
    """Leave the statistics of all batch norms as they were before the block."""
    norms = [module for module in model.modules() if _has_statistics(module)]
    before = _statistics(norms)
    try:
        yield
    finally:
        _restore(before)


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None


def _trained_norms(model: nn.Module) -> list[Any]:
    """Return the active batch norms whose statistics training would move."""
    with _kept_modes(model):
        model.train()
        return [
            module
            for module in active_modules(model)
            if _has_statistics(module) and module.training and not _is_frozen(module)
        ]


def _is_frozen(module: nn.Module) -> bool:
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)


@contextmanager
def _kept_modes(model: nn.Module) -> Iterator[None]:
    """Give every module its mode back after the block."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _measuring(model: nn.Module, norms: list[Any]) -> Iterator[None]:
    """Let norms take statistics while all else is in evaluation mode."""
    model.eval()
    momenta = [norm.momentum for norm in norms]
    alone = [norm for norm in norms if isinstance(norm, nn.SyncBatchNorm)]
    handles = [norm.register_forward_hook(_measure) for norm in alone]
    for norm in norms:
        norm.momentum = None  # the mean over all calls
        norm.training = norm not in alone  # in training they would wait for other processes
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _measure(norm: Any, inputs: tuple[Tensor], _: Tensor) -> Tensor:
    """Do what a batch norm does in training, in this process alone."""
    norm.num_batches_tracked += 1
    share = 1 / float(norm.num_batches_tracked)
    stores = norm.running_mean, norm.running_var, norm.weight, norm.bias
    return nn_functional.batch_norm(inputs[0], *stores, True, share, norm.eps)


def _forget(norms: list[Any]) -> None:
    for norm in norms:
        norm.reset_running_stats()


def _statistics(norms: Iterable[Any]) -> Statistics:
    return {n: {name: b.clone() for name, b in n.named_buffers(recurse=False)} for n in norms}


@torch.no_grad()
def _restore(statistics: Mapping[_BatchNorm, Mapping[str, Tensor]]) -> None:
    for norm, buffers in statistics.items():
        for name, value in buffers.items():
            getattr(norm, name).copy_(value)
