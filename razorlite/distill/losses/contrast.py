"""Contrast of a student's and a teacher's embedding with those of other images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.distributed import all_reduce_mean, gather_objects, rank
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
    other class yet teach nothing. Several processes share one memory and draw as a single one would
    for the batch of all.

    Args:
        weight: factor of the loss; typically 0.8.
        student_channels: channels of the student's features.
        teacher_channels: channels of the teacher's features.
        embedding: values of an embedding.
        tau: temperature.
        memory: images that are remembered, the last ones.
        negatives: images that each is contrasted with.

    Tian et al., Contrastive Representation Distillation, https://arxiv.org/abs/1910.10699, the
    contrastive loss with a critic; in the authors' code the memory has one entry for each image of
    the data set.
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
        """Return the 0-dim loss of (N, E) embeddings with (N,) int64 labels."""
        student, teacher = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
        joined = _joined(student, teacher, labels)
        self._remember(joined)
        return self._against_memory(student, teacher, joined)

    def _against_memory(self, student: Tensor, teacher: Tensor, joined: "_Joined") -> Tensor:
        """Return the 0-dim loss; each process takes its part of what is drawn for all of them."""
        others = (self.labels != joined.labels[:, None]) & (self.labels != _NOBODY)
        knows = others.any(1)
        weights = torch.where(knows[:, None], others, torch.ones_like(others)).float()
        generator = torch.Generator(weights.device).manual_seed(joined.seed)
        chosen = torch.multinomial(weights, self.negatives, replacement=True, generator=generator)
        chosen, taught = chosen[joined.own], knows[joined.own]
        sides = [
            (student[taught], teacher[taught], self.teacher_memory[chosen[taught]]),
            (teacher[taught], student[taught], self.student_memory[chosen[taught]]),
        ]
        if not bool(self.scales.any()):
            self._set_scales([self._scores(own, negatives) for own, _, negatives in sides])
        if not bool(taught.any()):
            return (student.sum() + teacher.sum()) * 0
        parts = [self._contrast(number, *side) for number, side in enumerate(sides)]
        return torch.stack(parts).sum() / len(student)

    def _scores(self, own: Tensor, negatives: Tensor) -> Tensor:
        """Return the (T, K) scores of (T, E) embeddings, each with (T, K, E) negatives."""
        return ((negatives @ own[..., None])[..., 0] / self.tau).exp()

    def _contrast(self, side: int, own: Tensor, other: Tensor, negatives: Tensor) -> Tensor:
        """Return the 0-dim sum over (T, E) embeddings, each with (T, K, E) negatives."""
        with_itself = ((own * other).sum(1, keepdim=True) / self.tau).exp()
        with_others = self._scores(own, negatives)
        scores = torch.cat([with_itself, with_others], 1) / self.scales[side].clone()
        expected = self.negatives / len(self.labels)
        logits = scores.clamp_min(1e-12).log() - torch.tensor(expected).log()
        signs = torch.ones_like(logits)
        signs[:, 1:] = -1
        return -F.logsigmoid(signs * logits).sum()

    @torch.no_grad()
    def _set_scales(self, scores: Sequence[Tensor]) -> None:
        """Set the constants that make scores probabilities by the first batch that has any."""
        counts = torch.tensor(float(scores[0].numel()), device=self.scales.device)
        sums = all_reduce_mean(torch.stack([*(side.sum() for side in scores), counts]))
        if float(sums[2]):
            self.scales.copy_(sums[:2] / sums[2] * len(self.labels))

    @torch.no_grad()
    def _remember(self, joined: "_Joined") -> None:
        """Note the images of all processes in the place of the oldest ones."""
        size = len(self.labels)
        keep = slice(-size, None)
        count = len(joined.labels[keep])
        rows = (self.position + torch.arange(count, device=self.position.device)) % size
        self.student_memory[rows] = joined.student[keep]
        self.teacher_memory[rows] = joined.teacher[keep]
        self.labels[rows] = joined.labels[keep]
        self.position.add_(count).remainder_(size)


@dataclass(frozen=True)
class _Joined:
    """One batch of all processes, in the order that it has in a single one.

    Attributes:
        student: (M, E) embeddings, without gradient.
        teacher: likewise.
        labels: (M,) int64.
        own: (N,) int64, which of the M images are this process's.
        seed: of what is drawn, the same everywhere.
    """

    student: Tensor
    teacher: Tensor
    labels: Tensor
    own: Tensor
    seed: int


def _joined(student: Tensor, teacher: Tensor, labels: Tensor) -> _Joined:
    """Return the batch that (N, E) embeddings with (N,) labels are this process's part of."""
    seed = int(torch.randint(2**31, ()))
    parts = gather_objects(((student.detach(), teacher.detach(), labels), seed))
    sizes = [len(rows[2]) for rows, _ in parts]
    turns = [torch.arange(size) * len(parts) + number for number, size in enumerate(sizes)]
    order = torch.cat(turns).argsort().to(labels.device)
    ours, theirs, classes = (
        torch.cat([rows[i].to(labels.device) for rows, _ in parts])[order] for i in range(3)
    )
    first = sum(sizes[: rank()])
    own = order.argsort()[first : first + len(labels)]
    return _Joined(ours, theirs, classes, own, parts[0][1])
