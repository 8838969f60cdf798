"""Running a model over a loader and judging what it predicts."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as nn_functional
from torch import Tensor, nn

from razorlite.evaluation._checks import check_count, check_tensors
from razorlite.evaluation.metric import Metric
from razorlite.structures import Batch, Target


def evaluate(
    model: nn.Module, loader: Iterable[Batch], metric: Metric, *, gather: bool = True
) -> dict[str, float]:
    """Return a metric's figures of a model's predictions on all batches of a loader.

    The model runs in evaluation mode without gradients and is left in the mode it had. Predictions
    and targets are compared in pixels of the original images.
    With several processes each runs its own batches, and all get the figures over all images.

    Args:
        model: has `predict(images, frames)` as `Detector` has it, or for classification
            `predict(images)`: (B, C) probabilities.
        loader: yields normalised batches, each image on one rank only.
        metric: reset first.
        gather: with several processes, judge the images of all; otherwise this process's own.

    Raises:
        DataError: the loader yields no images.
        EvaluationError: weights or predictions are NaN, or not of as many images.
    """
    metric.reset()
    check_tensors(model.named_parameters())
    objects: list[int] = []
    found = 0
    with eval_mode(model), torch.no_grad():
        for batch in loader:
            predictions = detect(model, batch)
            check_count(predictions, len(batch))
            if not isinstance(batch.targets, Tensor):
                batch = replace(batch, targets=[target_to_original(t) for t in batch.targets])
                objects += [_objects(target) for target in batch.targets]
            metric.update(predictions, batch.targets)
            found += sum(map(len, predictions))
    if not found:  # statistics may be NaN where they are not used, as in a supernet
        check_tensors(model.named_buffers())
    _tell_limit(metric, getattr(model, "max_detections", None), objects)
    if gather:
        metric.gather()
    return metric.compute()


def _objects(target: Target) -> int:
    return len(target) if target.crowd is None else int((~target.crowd).sum())


def _tell_limit(metric: Metric, limit: int | None, objects: list[int]) -> None:
    """Say once that images show more objects than the model returns."""
    over = [count for count in objects if limit is not None and count > limit]
    if over:
        metric.tell(
            "max_per_img",
            f"{len(over)} of {len(objects)} images show more objects (up to {max(over)}) than the "
            f"{limit} that the model finds in one: set max_per_img in its head's post_process to "
            f"{max(over)} or more",
        )


def detect(model: nn.Module, batch: Batch) -> Any:
    """Return what a model predicts of a batch: detections in pixels of the original images.

    Of a batch for classification these are (B, C) probabilities.
    """
    predict = cast(Any, model).predict
    if isinstance(batch.targets, Tensor):
        return predict(batch.images)
    canvas = (batch.images.shape[-2], batch.images.shape[-1])
    return predict(batch.images, [target.frame(canvas) for target in batch.targets])


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


def target_to_original(target: Target) -> Target:
    """Return a target in pixels of the original image."""
    if 0 in (*target.size, *target.original_size):
        return target
    return replace(
        target,
        boxes=target.frame(target.size).to_original(target.boxes),
        masks=_original_masks(target),
        size=target.original_size,
    )


def _original_masks(target: Target) -> Tensor | None:
    if target.original_masks is not None:
        return target.original_masks
    masks = target.masks
    if masks is None or len(masks) == 0:
        return masks
    height, width = target.size
    inside = masks[:, :height, :width]
    if target.size == target.original_size:
        return inside
    scaled = nn_functional.interpolate(inside[None].float(), target.original_size, mode="bilinear")
    return scaled[0] >= 0.5
