"""A fault of oneDNN that training on a processor has to go around."""

from typing import Any

import torch
from torch import Tensor, nn

_BLOCK = 16  # channels that its kernels take at once, at most


def keep_from_strided_fault(model: nn.Module) -> None:
    """Let strided 1 x 1 convolutions of few channels compute on contiguous maps while they learn.

    In the layout channels_last oneDNN writes past its workspace for the gradients of their weights
    where they read fewer channels than it takes at once: gradients are wrong, memory is damaged or
    the process dies (https://github.com/uxlfoundation/oneDNN/issues/6035). Networks that were
    pruned or searched have such layers.

    Args:
        model: on a processor, laid out as channels_last; a second call changes nothing more.
    """
    for layer in model.modules():
        mutable = type(layer) is not nn.Conv2d  # its channels and kernel are those of now
        if isinstance(layer, nn.Conv2d) and max(layer.stride) > 1 and (mutable or _is_hit(layer)):
            layer.weight.data = _restrided(layer.weight.data)
            if _on_contiguous not in layer._forward_pre_hooks.values():
                layer.register_forward_pre_hook(_on_contiguous)


def changes_layout_alone(hook: object) -> bool:
    """Return whether a forward hook is one of those, which leave alone what a layer computes."""
    return hook is _on_contiguous


def _is_hit(layer: nn.Conv2d) -> bool:
    return layer.kernel_size == (1, 1) and layer.in_channels // layer.groups < _BLOCK


def _on_contiguous(layer: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    if not torch.is_grad_enabled() or not _is_hit(layer):
        return None
    return (_restrided(args[0]), *args[1:])


def _restrided(x: Tensor) -> Tensor:
    """Return a copy with contiguous strides, also of sides of one, which tell layouts apart."""
    return x.clone(memory_format=torch.contiguous_format)
