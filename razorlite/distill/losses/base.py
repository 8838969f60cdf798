"""What a loss between a student's and a teacher's tensor is, and what several of them share."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.compute import full_precision
from razorlite.core.errors import ConfigError
from razorlite.core.ranges import NonNegative
from razorlite.distill.scene import Scene


class DistillLoss(nn.Module):
    """A loss between a student's and a teacher's tensor; subclasses write `compare`.

    Layers of a loss's own run in `project`, in the precision of the step, and are trained beside
    the student. What else `compare` takes, labels or boxes, comes from the scene by `known`, or by
    keyword where a loss is called directly.

    Args:
        weight: factor of the loss.
    """

    same_channels = True
    """Whether student and teacher must have equally many channels."""

    def __init__(self, *, weight: NonNegative = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, student: Tensor, teacher: Tensor, **known: Any) -> Tensor:
        """Return the weighted loss, a float32 scalar, of two tensors (N, C, ...)."""
        student, teacher = self.project(student, teacher.detach())
        with full_precision(student.device):
            return self.weight * self.compare(student.float(), teacher.float(), **known)

    def known(self, scene: Scene) -> dict[str, Any]:
        """Return what `compare` takes beside the two tensors, by name.

        Raises:
            ConfigError: the scene lacks it.
        """
        return {}

    def project(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is compared of two tensors (N, C, ...): themselves by default."""
        return student, teacher

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the 0-dim loss of two float32 tensors of one shape, without the weight."""
        raise NotImplementedError


def image_labels(loss: nn.Module, scene: Scene) -> Tensor:
    """Return a batch's (N,) int64 labels, one for each image.

    Raises:
        ConfigError: the images have no label each; names the loss.
    """
    labels = scene.batch.targets
    if isinstance(labels, Tensor) and labels.ndim == 1:
        return labels
    raise ConfigError(
        f"{type(loss).__name__} needs one label for each image, as a classifier's batches have; "
        f"these have {_kind(labels)}: use a loss without labels, such as LogitKL"
    )


def image_boxes(loss: nn.Module, scene: Scene) -> list[Tensor]:
    """Return the (K, 4) boxes of each image, x1, y1, x2, y2 in pixels of the batch, without crowds.

    Raises:
        ConfigError: the images have no boxes; names the loss.
    """
    targets = scene.batch.targets
    if isinstance(targets, list) and all(hasattr(target, "without_crowd") for target in targets):
        return [target.without_crowd().boxes for target in targets]
    raise ConfigError(
        f"{type(loss).__name__} needs boxes, as a detector's batches have; these have "
        f"{_kind(targets)}: use a loss without boxes, such as PKD or ChannelWiseDivergence"
    )


def averaged(
    rows: Tensor, weights: Tensor | None = None, avg_factor: float | Tensor | None = None
) -> Tensor:
    """Return the 0-dim sum of (R,) or (N, ...) losses, each weighted, over a number.

    Args:
        rows: a loss for each row, or for each image and location.
        weights: of the same shape; ones by default.
        avg_factor: what the sum is divided by; the number of rows by default.
    """
    total = (rows if weights is None else rows * weights).sum()
    return total / (max(rows.numel(), 1) if avg_factor is None else avg_factor)


def kl(student: Tensor, teacher: Tensor, dim: int, tau: float) -> Tensor:
    """Return tau^2 * KL(teacher || student) of softmaxes over a dimension of one shape.

    That dimension is summed away.
    """
    return kl_terms(student, teacher, dim, tau).sum(dim)


def kl_terms(student: Tensor, teacher: Tensor, dim: int, tau: float) -> Tensor:
    """Return the terms, in the two tensors' shape, that add up to `kl`."""
    log_student = F.log_softmax(student / tau, dim)
    log_teacher = F.log_softmax(teacher / tau, dim)
    return tau**2 * log_teacher.exp() * (log_teacher - log_student)


def per_image(total: Tensor, maps: Tensor) -> Tensor:
    """Return a 0-dim sum over the number of images that (N, ...) maps have."""
    return total / max(maps.shape[0], 1)


def require_maps(loss: nn.Module, maps: Tensor, instead: str) -> None:
    """Refuse what is no map (N, C, H, W) or (N, C, locations).

    Raises:
        ConfigError: as described; names the loss and what to use in its place.
    """
    if maps.ndim < 3:
        raise ConfigError(
            f"{type(loss).__name__} compares maps (N, C, H, W), got shape {tuple(maps.shape)}; "
            f"use {instead}"
        )


def split_channels(owner: str, name: str, maps: Tensor, size: int) -> Tensor:
    """Return (N, C / size, size, ...) of maps (N, C, ...).

    Raises:
        ConfigError: the channels are no multiple of the size; names its owner and the argument.
    """
    if maps.shape[1] % size:
        raise ConfigError(
            f"{owner}: logits have {maps.shape[1]} channels, not a multiple of {name} {size}; set "
            f"{name} to what the head has"
        )
    split: Tensor = maps.unflatten(1, (-1, size))
    return split


def _kind(targets: Any) -> str:
    if targets is None:
        return "no targets"
    if isinstance(targets, list):
        return f"a list of {type(targets[0]).__name__}" if targets else "an empty list"
    return "one label each" if isinstance(targets, Tensor) else type(targets).__name__
