"""Contrast of a student's and a teacher's embedding with those of other images."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.distributed import all_reduce_mean, gather_objects
from razorlite.core.ranges import Count, NonNegative, Positive
from razorlite.core.registry import register
from razorlite.distill.losses.base import LayeredLoss, image_labels
from razorlite.distill.scene import Scene

_NOBODY = -1


@register()
class CRD(LayeredLoss):
    """Tells an image's own embedding from those of other classes.

    Both sides' features (N, C, ...) are averaged over locations, embedded by a linear layer each
    and scaled to unit length. Each image of one side is contrasted with itself and with
    `negatives` of other classes on the other side, drawn from a memory of the last `memory` images,
    which is kept in checkpoints. Needs the images' labels. Images for which the memory knows no
    other class yet teach nothing.

    Args:
        weight: factor of the loss; typically 0.8.
        student_channels: channels of the student's features.
        teacher_channels: channels of the teacher's features.
        embedding: values of an embedding.
        tau: temperature.
        memory: images that are remembered, the last ones.
        negatives: images that each is contrasted with.

    Tian et al., Contrastive Representation Distillation, https://arxiv.org/abs/1910.10699, eq. 17
    to 19; in the authors' code the memory has one entry for each image of the data set.
    """

    needs = "labels"
    student_memory: Tensor
    teacher_memory: Tensor
    labels: Tensor
    position: Tensor
    scales: Tensor

    def __init__(
        self,
        *,
        weight: NonNegative = 1.0,
        student_channels: Count,
        teacher_channels: Count,
        embedding: Count = 128,
        tau: Positive = 0.07,
        memory: Count = 16384,
        negatives: Count = 1024,
    ) -> None:
        super().__init__(
            weight=weight, student_channels=student_channels, teacher_channels=teacher_channels
        )
        self.tau, self.negatives = tau, negatives
        self.embed_student = nn.Linear(student_channels, embedding)
        self.embed_teacher = nn.Linear(teacher_channels, embedding)
        for side in ("student", "teacher"):
            self.register_buffer(f"{side}_memory", torch.zeros(memory, embedding))
        self.register_buffer("labels", torch.full((memory,), _NOBODY))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scales", torch.zeros(2))  # of the first batch: student's, teacher's

    def known(self, scene: Scene) -> dict[str, Any]:
        """Return the labels, (N,) int64.

        Raises:
            ConfigError: the images have no label each.
        """
        return {"labels": image_labels(self, scene)}

    def project(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (N, embedding) embeddings of two tensors (N, C, ...), not yet scaled."""
        ours = self.embed_student(student.flatten(2).mean(2) if student.ndim > 2 else student)
        theirs = self.embed_teacher(teacher.flatten(2).mean(2) if teacher.ndim > 2 else teacher)
        return ours, theirs

    def compare(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """Return the 0-dim loss of embeddings (N, embedding) with labels (N,) int64."""
        student, teacher = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
        self._remember(student, teacher, labels)
        others = (self.labels != labels[:, None]) & (self.labels != _NOBODY)
        taught = others.any(1)
        if not bool(taught.any()):
            return (student.sum() + teacher.sum()) * 0
        chosen = torch.multinomial(others[taught].float(), self.negatives, replacement=True)
        student, teacher = student[taught], teacher[taught]
        parts = [
            self._contrast(0, student, teacher, self.teacher_memory[chosen]),
            self._contrast(1, teacher, student, self.student_memory[chosen]),
        ]
        return torch.stack(parts).sum() / len(labels)

    def _contrast(self, side: int, own: Tensor, other: Tensor, negatives: Tensor) -> Tensor:
        """Return the 0-dim sum of eq. 18 over (T, E) embeddings, each with (T, K, E) negatives."""
        with_itself = ((own * other).sum(1, keepdim=True) / self.tau).exp()
        with_others = ((negatives @ own[..., None])[..., 0] / self.tau).exp()
        scores = torch.cat([with_itself, with_others], 1) / self._scale(side, with_others)
        expected = self.negatives / len(self.labels)
        logits = scores.clamp_min(1e-12).log() - torch.tensor(expected).log()
        signs = torch.ones_like(logits)
        signs[:, 1:] = -1
        return -F.logsigmoid(signs * logits).sum()

    def _scale(self, side: int, scores: Tensor) -> Tensor:
        """Return the 0-dim constant that makes scores probabilities, set by the first batch."""
        if float(self.scales[side]) == 0:
            self.scales[side] = all_reduce_mean(scores.mean()) * len(self.labels)
        return self.scales[side].clone()

    @torch.no_grad()
    def _remember(self, student: Tensor, teacher: Tensor, labels: Tensor) -> None:
        """Note the images of all processes in the place of the oldest ones."""
        for ours, theirs, classes in gather_objects((student.detach(), teacher.detach(), labels)):
            size = len(self.labels)
            keep = slice(-size, None)
            count = len(classes[keep])
            rows = (self.position + torch.arange(count, device=self.position.device)) % size
            self.student_memory[rows] = ours[keep].to(self.student_memory.device)
            self.teacher_memory[rows] = theirs[keep].to(self.teacher_memory.device)
            self.labels[rows] = classes[keep].to(self.labels.device)
            self.position.add_(count).remainder_(size)
