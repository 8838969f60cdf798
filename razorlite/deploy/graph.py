"""A detector or classifier as one function of tensors, as files for other runtimes hold it."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.data import Preprocess
from razorlite.models.detectors.single_stage import Detector
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.structures import input_names

_CHANCES = ("probabilities",)


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
        outputs: tuple[str, ...] = cast(Any, self.model).outputs if self.detects else _CHANCES
        return outputs

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what is found in each image; all of them are whole, without padding.

        Args:
            images: (N, 3, H, W) float RGB pixels from 0 to 255, or normalised ones.

        Returns:
            Of a detector (N, K, 4) boxes as x1, y1, x2, y2 in pixels, (N, K) scores, best first
            and 0 in empty slots, and (N, K) int64 labels; of a detector with masks (N, M, H, W)
            bool masks of the first M slots too, which is how many the fullest image fills, but at
            least 1; of a classifier (N, C) probabilities.
        """
        model, inputs = cast(Any, self.model), self._normalised(images)
        if not self.detects:
            return (model(inputs).float().softmax(1),)
        boxes, scores, labels, *masks = model.detect(inputs, _whole(images))
        height, width = images.shape[2:]
        return boxes, scores, labels, *(m[..., :height, :width] for m in masks)

    def _normalised(self, images: Tensor) -> Tensor:
        """Return what the model sees: zeros below and to the right of the images."""
        if not self.normalises:
            return images
        images = images.flip(1) if self.swaps else images
        below, right = (-side % self.multiple for side in images.shape[2:])
        return F.pad((images - self.mean) / self.std, (0, right, 0, below))


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
