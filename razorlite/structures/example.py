"""What a model is called with: positional arguments, and the tensors in them."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from razorlite.structures.inputs import example_inputs

Shape = tuple[int, int]


def is_shape(example: Any) -> TypeGuard[Shape]:
    """Return whether an example is a height and a width alone."""
    return (
        isinstance(example, Sequence)
        and len(example) == 2
        and all(isinstance(side, int) for side in example)
    )


def inputs_of(model: nn.Module, example: Any) -> tuple[Any, ...]:
    """Return the positional arguments that an example stands for.

    Args:
        model: gets them.
        example: (height, width) in pixels for the model's own example, or a batch of one image;
            a tuple of arguments; or the only argument, such as a list of images.
    """
    if is_shape(example):
        return (example_inputs(model, example),)
    return example if isinstance(example, tuple) else (example,)


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return nested containers with a function of all their tensors."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(function, x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(function, x) for x in value)
    return value


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield all tensors in containers and objects, in order; modules are not looked into."""
    seen: set[int] = set()

    def walk(x: Any) -> Iterator[Tensor]:
        if isinstance(x, Tensor):
            yield x
            return
        if id(x) in seen or isinstance(x, nn.Module | type | str | bytes):
            return
        seen.add(id(x))
        inner: Any = vars(x).values() if hasattr(x, "__dict__") else ()
        if isinstance(x, Mapping):
            inner = [*x.values(), *inner]
        elif isinstance(x, list | tuple | set | frozenset):
            inner = [*x, *inner]
        for part in inner:
            yield from walk(part)

    yield from walk(value)


def training_calls(model: nn.Module, inputs: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield the arguments that a model may want in training: the inputs, and with targets.

    Targets are those of torchvision's detectors: two objects in each image.
    """
    yield inputs
    parameters = inspect.signature(model.forward).parameters
    if len(inputs) == 1 and len(parameters) > 1:
        yield (*inputs, [_target(image) for image in inputs[0]])


def _target(image: Tensor) -> dict[str, Tensor]:
    height, width = image.shape[-2:]
    x, y = width // 8, height // 8
    boxes = [[x, y, 5 * x, 6 * y], [3 * x, 2 * y, 7 * x, 7 * y]]
    points = [[[box[0] + 1, box[1] + 1, 1]] * 17 for box in boxes]
    device, masks = image.device, torch.zeros(2, height, width, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    return {
        "boxes": torch.tensor(boxes, dtype=image.dtype, device=device),
        "labels": torch.ones(2, dtype=torch.int64, device=device),
        "masks": masks.to(device),
        "keypoints": torch.tensor(points, dtype=image.dtype, device=device),
    }
