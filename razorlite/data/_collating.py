"""One padded batch of single items."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from razorlite.core.errors import DataError
from razorlite.structures import Annotation, Batch, Inputs, is_images

_MOST_PIXELS = 1 << 30  # of a batch: 12 GB once they are floats

Size = tuple[int, int]


def collate(images: Sequence[Tensor], multiple: int) -> tuple[Tensor, list[Size]]:
    """Return one batch of images (…, 3, H, W), and each one's (height, width) in it.

    Args:
        images: B of them, alike in all but height and width.
        multiple: sides of the batch are multiples of it.

    Returns:
        (B, …, 3, H, W) with zeros at the right and bottom, and B sizes.

    Raises:
        DataError: the batch would have more than a billion pixels.
    """
    shapes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
    height, width = (-(-max(side) // multiple) * multiple for side in zip(*shapes, strict=True))
    front = images[0].shape[:-2]
    if len(images) * front[:-1].numel() * height * width > _MOST_PIXELS:
        raise DataError(
            f"{len(images)} images, padded to {width} x {height} pixels each, are too large for a "
            f"batch; resize or crop them first, or lower batch_size"
        )
    batch = images[0].new_zeros((len(images), *front, height, width))
    for place, image, (h, w) in zip(batch, images, shapes, strict=True):
        place[..., :h, :w] = image
    return batch, shapes


def collate_items(items: Sequence[tuple[Inputs, Any]], multiple: int) -> Batch:
    """Return a batch of (inputs, annotation) pairs; see `Dataset.collate`.

    Raises:
        DataError: the items do not fit together, or the batch is too large.
    """
    inputs, sizes = _joined([inputs for inputs, _ in items], multiple)
    annotations: Any = [annotation for _, annotation in items]
    if all(isinstance(annotation, int) for annotation in annotations):
        return Batch(inputs, torch.tensor(annotations, dtype=torch.int64), sizes)
    batch = Batch(inputs, annotations, sizes)
    if not sizes:
        return batch
    canvas = (batch.images.shape[-2], batch.images.shape[-1])
    padded = [a.padded(canvas) if isinstance(a, Annotation) else a for a in annotations]
    return Batch(inputs, padded, sizes)


def _joined(inputs: Sequence[Inputs], multiple: int) -> tuple[Inputs, tuple[Size, ...]]:
    """Return the inputs of all samples and the sizes of their images, the first ones of several."""
    if isinstance(inputs[0], Tensor):
        images, found = collate(inputs, multiple)  # type: ignore[arg-type]
        return images, tuple(found)
    sizes: list[Size] = []
    joined = {}
    for name in inputs[0]:
        parts = [_part(sample, name) for sample in inputs]
        if is_images(name):
            joined[name], found = collate(parts, multiple)
            sizes = sizes or found
        else:
            joined[name] = _stacked(parts, name)
    return joined, tuple(sizes)


def _part(sample: Inputs, name: str) -> Tensor:
    if not isinstance(sample, Mapping) or name not in sample:
        raise DataError(f"one sample of a batch has the input {name!r}, another has not")
    return sample[name]


def _stacked(parts: Sequence[Tensor], name: str) -> Tensor:
    shapes = dict.fromkeys(tuple(part.shape) for part in parts)
    if len(shapes) > 1:
        raise DataError(
            f"the samples of a batch have inputs {name!r} of the shapes "
            f"{', '.join(map(str, shapes))}; pad them in the data set's `collate`"
        )
    return torch.stack(list(parts))
