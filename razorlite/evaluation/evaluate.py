"""Running a model over a loader and evaluating what it predicts."""

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import nn

from razorlite.core.progress import progress
from razorlite.evaluation._checks import check_count, check_tensors
from razorlite.evaluation.metric import Metric
from razorlite.structures import Annotation, Batch


def evaluate(
    model: nn.Module,
    loader: Iterable[Batch],
    metric: Metric,
    *,
    gather: bool = True,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, float]:
    """Return a metric's values for a model's predictions on all batches of a loader.

    The model runs in evaluation mode without gradients and is left in the mode it had. Predictions
    and targets are compared in pixels of the original images.
    With several processes each runs its own batches, and all get the metrics over all images.

    Args:
        model: has `predict(batch)`, which returns what the metric takes, one for each sample: a
            list of `Detections`, (B, C) probabilities, or a list of anything.
        loader: yields normalised batches, each sample on one rank only.
        metric: reset first.
        gather: with several processes, evaluate the images of all; otherwise this process's own.
        autocast: makes the context in which the model predicts, such as `Compute.autocast`.

    Raises:
        DataError: the loader yields no images.
        EvaluationError: weights or predictions are NaN, or not of as many images.
    """
    metric.reset()
    check_tensors(model.named_parameters())
    objects: list[int] = []
    found = 0
    with eval_mode(model), torch.no_grad():
        total = len(loader) if isinstance(loader, Sized) else None
        for batch in progress(loader, "batches", total):
            with autocast():
                predictions = cast(Any, model).predict(batch)
            check_count(predictions, len(batch))
            targets = batch.originals()
            objects += [t.objects() for t in targets if isinstance(t, Annotation)]
            metric.update(predictions, targets)
            found += sum(len(one) if isinstance(one, Sized) else 1 for one in predictions)
    if not found:  # statistics may be NaN where they are not used, as in a supernet
        check_tensors(model.named_buffers())
    _tell_limit(metric, getattr(model, "max_detections", None), objects)
    if gather:
        metric.gather()
    return metric.compute()


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
