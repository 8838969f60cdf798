"""A detector or classifier as one function of tensors, as files for other runtimes hold it."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms

from razorlite.core.errors import ConfigError
from razorlite.data import Preprocess
from razorlite.models.detectors.single_stage import Detector
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.structures import input_names

_MOST = (
    4096  # candidates of an image that go into suppression; those that score lowest are left out
)


class Deployed(nn.Module):
    """Pixels to what is found in them: normalising, the model, and suppression in one.

    Args:
        model: a `Detector`, or a classifier that gives logits.
        preprocess: what images go through; None takes images that are normalised already.

    Raises:
        ConfigError: the model takes other inputs than images, or the detector's post-processing
            cannot be written as a function of tensors.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, preprocess: Preprocess | None) -> None:
        super().__init__()
        if names := input_names(model):
            raise ConfigError(
                f"{type(model).__name__} takes {', '.join(names)}; exported files take one image, "
                f"as detectors and classifiers do"
            )
        self.model = model
        self.detects = isinstance(model, Detector)
        self.normalises = preprocess is not None
        known = preprocess or Preprocess()
        self.swaps, self.multiple = known.channels == "bgr", known.pad_multiple
        self.register_buffer("mean", torch.tensor(known.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(known.std).view(3, 1, 1))
        if self.detects:
            _check(cast(Any, model).post_process)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `forward` returns."""
        return ("boxes", "scores", "labels") if self.detects else ("probabilities",)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what is found in each image; all of them are whole, without padding.

        Args:
            images: (N, 3, H, W) float RGB pixels from 0 to 255, or normalised ones.

        Returns:
            Of a detector (N, K, 4) boxes as x1, y1, x2, y2 in pixels, (N, K) scores, best first
            and 0 in empty slots, and (N, K) int64 labels; of a classifier (N, C) probabilities.
        """
        model, inputs = cast(Any, self.model), self._normalised(images)
        if not self.detects:
            return (model(inputs).float().softmax(1),)
        boxes, scores, labels = model.decode(inputs, _whole(images))
        return kept(boxes, scores, labels, model.post_process)

    def _normalised(self, images: Tensor) -> Tensor:
        """Return what the model sees: zeros below and to the right of the images."""
        if not self.normalises:
            return images
        images = images.flip(1) if self.swaps else images
        below, right = (-side % self.multiple for side in images.shape[2:])
        return F.pad((images - self.mean) / self.std, (0, right, 0, below))


def kept(
    boxes: Tensor, scores: Tensor, labels: Tensor, settings: PostProcess
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the candidates that stay, best first, in tensors of fixed shapes.

    Args:
        boxes: (N, K, 4) pixels.
        scores: (N, K), 0 in empty slots.
        labels: (N, K) int64.
        settings: thresholds and how many to keep; the kinds that `Deployed` takes.

    Returns:
        (N, M, 4) boxes, (N, M) scores, 0 in empty slots, and (N, M) labels, where M is
        `max_per_img`, or K where that is less.
    """
    best = scores.topk(min(_MOST, scores.shape[1]))
    boxes, scores, labels = _rows(boxes, best.indices), best.values, labels.gather(1, best.indices)
    sides = boxes[..., 2:] - boxes[..., :2]
    scores = torch.where((sides > settings.min_bbox_size).all(-1), scores, 0.0)
    if settings.iou_threshold is not None:
        scores = scores * _unsuppressed(boxes, scores, labels, settings.iou_threshold)
    best = scores.topk(min(settings.max_per_img, scores.shape[1]))
    return _rows(boxes, best.indices), best.values, labels.gather(1, best.indices)


def _rows(boxes: Tensor, rows: Tensor) -> Tensor:
    """Return some of each image's boxes, (N, K, 4) by (N, M) numbers."""
    return boxes.gather(1, rows[..., None].expand(-1, -1, 4))


def _unsuppressed(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Return (N, K), 1 where no better box of the same image and class overlaps more.

    Images and classes are moved apart, so that one suppression serves them all.
    """
    image = torch.arange(scores.shape[0], device=scores.device)[:, None]
    group = labels + image * (labels.max() + 1)
    apart = boxes + (group * (boxes.max() + 1))[..., None]
    rows = nms(apart.flatten(0, 1), scores.flatten(), threshold)
    flags = torch.zeros_like(scores.flatten()).scatter(0, rows, torch.ones_like(rows).to(scores))
    return flags.view_as(scores)


def _whole(images: Tensor) -> Tensor:
    """Return (N, 2) height and width of images without padding, as a tensor the graph computes."""
    ones = torch.ones_like(images[:, 0])
    return torch.stack((ones[:, :, 0].sum(1), ones[:, 0].sum(1)), 1)


def _check(settings: PostProcess) -> None:
    if settings.soft_nms:
        raise ConfigError(
            "soft_nms cannot be exported; set the head's post_process.soft_nms to null, and "
            "measure what that costs with razorlite test"
        )
