"""Running a model over a loader and judging what it predicts."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as nn_functional
from torch import Tensor, nn

from razorlite.evaluation.metric import Metric
from razorlite.structures import Batch, Detections, Target


def evaluate(
    model: nn.Module, loader: Iterable[Batch], metric: Metric, *, gather: bool = True
) -> dict[str, float]:
    """Return a metric's figures of a model's predictions on all batches of a loader.

    The model runs in evaluation mode without gradients and is left in the mode it had. Boxes and
    masks of predictions and targets are scaled to the original images, and boxes clipped to them.
    With several processes each runs its own batches, and all get the figures over all images.

    Args:
        model: has `predict(images)`: list of `Detections` in pixels of the batch, or (B, C)
            probabilities.
        loader: yields normalised batches, each image on one rank only.
        metric: reset first.
        gather: with several processes, judge the images of all; otherwise this process's own.

    Raises:
        DataError: the loader yields no images.
    """
    metric.reset()
    with eval_mode(model), torch.no_grad():
        for batch in loader:
            predictions = cast(Any, model).predict(batch.images)
            metric.update(*_judgeable(predictions, batch.targets))
    if gather:
        metric.gather()
    return metric.compute()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and each of its modules back into its mode afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def to_original(detections: Detections, target: Target) -> Detections:
    """Return detections in pixels of the original image, clipped to it.

    Args:
        detections: in pixels of the batch.
        target: tells the image's size in the batch and its original size.
    """
    if 0 in (*target.size, *target.original_size):
        return detections
    height, width = target.original_size
    limits = detections.boxes.new_tensor([width, height, width, height])
    boxes = detections.boxes * _factors(target).to(detections.boxes)
    boxes = torch.minimum(boxes.clamp(min=0), limits)
    return replace(detections, boxes=boxes, masks=_scale_masks(detections.masks, target))


def target_to_original(target: Target) -> Target:
    """Return a target in pixels of the original image."""
    if 0 in (*target.size, *target.original_size):
        return target
    return replace(
        target,
        boxes=target.boxes * _factors(target).to(target.boxes),
        masks=_scale_masks(target.masks, target),
        size=target.original_size,
    )


def _judgeable(predictions: Any, targets: Any) -> tuple[Any, Any]:
    if isinstance(targets, Tensor):
        return predictions, targets
    pairs = zip(predictions, targets, strict=True)
    found = [to_original(detections, target) for detections, target in pairs]
    return found, [target_to_original(target) for target in targets]


def _factors(target: Target) -> Tensor:
    """Return the (4,) factors from batch pixels to original pixels."""
    x = target.original_size[1] / target.size[1]
    y = target.original_size[0] / target.size[0]
    return torch.tensor([x, y, x, y], dtype=torch.float64)


def _scale_masks(masks: Tensor | None, target: Target) -> Tensor | None:
    if masks is None or len(masks) == 0:
        return masks
    height, width = target.size
    inside = masks[:, :height, :width]
    if target.size == target.original_size:
        return inside
    scaled = nn_functional.interpolate(inside[None].float(), target.original_size, mode="bilinear")
    return scaled[0] >= 0.5
