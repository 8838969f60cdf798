"""What a loss between a student's and a teacher's tensor is, and what several of them share."""

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.compute import full_precision
from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, NonNegative
from razorlite.distill.scene import Scene


class DistillLoss(nn.Module):
    """A loss between a student's and a teacher's tensor; subclasses write `compare`.

    Layers of a loss's own are trained beside the student; those in `project` run in the precision
    of the step, those in `compare` in float32. What else `compare` takes, labels or boxes, comes
    from the scene by `known`, or by keyword where a loss is called directly.

    Args:
        weight: factor of the loss.
    """

    same_channels = True
    """Whether student and teacher must have equally many channels."""

    needs: Literal["", "labels", "boxes"] = ""
    """What must be known of each image: one label, or boxes."""

    def __init__(self, *, weight: NonNegative = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, student: Tensor, teacher: Tensor, **known: Any) -> Tensor:
        """Return the weighted loss, a float32 scalar, of two tensors (N, C, ...)."""
        student, teacher = self.prepared(student, teacher)
        with full_precision(student.device):
            return self.weight * self.compare(student.float(), teacher.float(), **known)

    def prepared(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is compared of two tensors (N, C, ...), the teacher's without gradient.

        Raises:
            ConfigError: they cannot be compared.
        """
        student, teacher = self.project(student, teacher.detach())
        self.check(student, teacher)
        return student, teacher

    def check(self, student: Tensor, teacher: Tensor) -> None:
        """Refuse two tensors (N, C, ...) whose shapes `compare` cannot take.

        Raises:
            ConfigError: as described.
        """

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


class LayeredLoss(DistillLoss):
    """A loss with layers of its own, trained beside the student, one for each level of a pyramid.

    Args:
        weight: factor of the loss.
        student_channels: channels of the student's map.
        teacher_channels: channels of the teacher's map.
    """

    same_channels = False

    def __init__(
        self, *, weight: NonNegative, student_channels: Count, teacher_channels: Count
    ) -> None:
        super().__init__(weight=weight)
        self.student_channels, self.teacher_channels = student_channels, teacher_channels

    def prepared(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is compared of two tensors (N, C, ...), the teacher's without gradient.

        Raises:
            ConfigError: they do not have the channels that the layers take.
        """
        for side, maps in (("student", student), ("teacher", teacher)):
            expected = getattr(self, f"{side}_channels")
            if maps.shape[1] != expected:
                raise ConfigError(
                    f"{type(self).__name__}: {side}_channels is {expected} but the {side}'s "
                    f"features have {maps.shape[1]}; set {side}_channels to that"
                )
        return super().prepared(student, teacher)


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


def _kind(targets: Any) -> str:
    if targets is None:
        return "no targets"
    if isinstance(targets, list):
        return f"a list of {type(targets[0]).__name__}" if targets else "an empty list"
    return "one label each" if isinstance(targets, Tensor) else type(targets).__name__
