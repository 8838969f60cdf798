"""Which layers of a model run on which inputs, and the same layers with other widths."""

from typing import Any

import torch
from torch import Tensor, nn

from razorlite.cost.count import evaluating
from razorlite.structures import inputs_of

Layer = nn.Conv2d | nn.Linear
Shape = tuple[int, ...]


@torch.no_grad()
def layer_calls(model: nn.Module, example: Any) -> dict[str, list[Shape]]:
    """Return the shape of what goes into each call of each convolution and linear layer.

    Args:
        model: is run once, in evaluation mode.
        example: as for `Channels`.
    """
    calls: dict[str, list[Shape]] = {}
    layers = {path: m for path, m in model.named_modules() if is_layer(m)}
    hooks = [m.register_forward_pre_hook(_noting(calls, path)) for path, m in layers.items()]
    try:
        with evaluating(model):
            model(*inputs_of(model, example))
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def is_layer(module: nn.Module) -> bool:
    """Return whether a module is a plain convolution or linear layer."""
    return type(module) in (nn.Conv2d, nn.Linear)


def widths_of(layer: nn.Module) -> tuple[int, int]:
    """Return the input channels that an output channel reads in all groups, and the outputs."""
    groups: int = getattr(layer, "groups", 1)
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return weight.shape[1] * groups, weight.shape[0]


def with_widths(layer: Layer, inputs: int, outputs: int) -> Layer:
    """Return an ungrouped layer of the same kind with so many channels on its sides."""
    if isinstance(layer, nn.Linear):
        return nn.Linear(inputs, outputs, bias=False)
    return nn.Conv2d(
        inputs,
        outputs,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        bias=False,
    )


def with_channels(layer: Layer, shape: Shape, channels: int) -> Shape:
    """Return the shape of what goes into a layer, with another number of channels."""
    if isinstance(layer, nn.Linear):
        return (*shape[:-1], channels)
    return (shape[0], channels, *shape[2:])


def noise(shape: Shape) -> Tensor:
    """Return values that are the same each time."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def geometry(layer: Layer) -> Shape:
    """Return what tells layers of one kind apart beside their widths; empty for a linear layer."""
    if isinstance(layer, nn.Linear):
        return ()
    return (*layer.kernel_size, *layer.stride, *layer.dilation, layer.groups)


def _noting(calls: dict[str, list[Shape]], path: str) -> Any:
    def note(_: nn.Module, args: tuple[Any, ...]) -> None:
        calls.setdefault(path, []).append(tuple(args[0].shape))

    return note
