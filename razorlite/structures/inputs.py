"""What goes into a model: one tensor of images, or a mapping of named tensors."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

Inputs = Tensor | Mapping[str, Tensor]
IMAGES = "images"


def map_inputs(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """Return inputs with a function done to each of their tensors."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    return {name: function(value) for name, value in inputs.items()}


def map_images(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """Return inputs with a function done to their images alone.

    In a mapping these are the tensors (…, 3, H, W) whose names begin with "images", such as
    "images" (N, cameras, 3, H, W) or "images_front"; a single tensor is all images.
    """
    if isinstance(inputs, Tensor):
        return function(inputs)
    return {name: function(v) if is_images(name) else v for name, v in inputs.items()}


def is_images(name: str) -> bool:
    """Return whether a tensor of a mapping holds images, by its name."""
    return name.startswith(IMAGES)


def images_of(inputs: Inputs) -> Tensor | None:
    """Return the images of some inputs, the first ones of several; None where there are none."""
    if isinstance(inputs, Tensor):
        return inputs
    return next((value for name, value in inputs.items() if is_images(name)), None)


def tensors_of(inputs: Inputs) -> list[Tensor]:
    """Return the tensors of some inputs, in their order."""
    return [inputs] if isinstance(inputs, Tensor) else list(inputs.values())


def example_inputs(
    model: nn.Module,
    shape: tuple[int, int],
    *,
    count: int = 1,
    device: torch.device | str | None = None,
) -> Inputs:
    """Return what a model can be run on, in its precision.

    A model with other inputs than images says so by a method `example(shape)`, which returns the
    inputs of one sample, a tensor or a mapping of tensors with a first dimension of 1 each, for
    images of (height, width) pixels: numbers as they are in use (camera matrices, say), or zeros.
    Any other model takes (count, 3, H, W) images, which are zeros here.

    Args:
        model: what is to be run.
        shape: (height, width) of the images in pixels.
        count: samples in the batch.
        device: of the inputs; "meta" gives shapes alone. Where the model is, by default.
    """
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    place = first.device if device is None else torch.device(device)
    own = getattr(model, "example", None)
    if own is None:
        return torch.zeros(count, 3, *shape, dtype=first.dtype, device=place)

    def fitted(value: Tensor) -> Tensor:
        dtype = first.dtype if value.is_floating_point() else value.dtype
        return value.expand(count, *value.shape[1:]).to(place, dtype).contiguous()

    return map_inputs(fitted, own(shape))


def input_names(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the inputs that a model takes in a mapping; none where it takes images.

    Its `example` tells, of images of 64 x 64 pixels.
    """
    own = getattr(model, "example", None)
    example = None if own is None else own((64, 64))
    return tuple(example) if isinstance(example, Mapping) else ()


def with_noise(inputs: Inputs, generator: torch.Generator) -> Inputs:
    """Return inputs whose floating tensors of zeros are normal noise instead; the rest stays.

    Args:
        inputs: such as `example_inputs` gives, not on the meta device.
        generator: of the noise, on the CPU.
    """

    def filled(value: Tensor) -> Tensor:
        if not value.is_floating_point() or bool(value.any()):
            return value
        return torch.randn(value.shape, generator=generator).to(value)

    return map_inputs(filled, inputs)
