"""Attention-guided distillation with relations between locations."""

import torch
from torch import Tensor, nn

from razorlite.core.ranges import Count, NonNegative, Positive
from razorlite.core.registry import register
from razorlite.distill.connectors import NonLocalBlock, NonLocalConnector
from razorlite.distill.losses.base import LayeredLoss


@register()
class FBKD(LayeredLoss):
    """Distances of attended maps, of pooled ones, and of non-local relations.

    Four Euclidean distances over the batch: of the maps, where both sides attend; of their means
    over locations; over channels; and of what a non-local block makes of each. The student's side
    of each goes through a layer. Each level of a pyramid has a loss of its own.

    Args:
        weight: factor of the loss.
        student_channels: channels of the student's map.
        teacher_channels: channels of the teacher's map.
        tau: temperature of attention.
        features: weight of the maps.
        channels: weight of the means over locations.
        space: weight of the means over channels.
        relations: weight of the non-local relations.
        pool: max pooling of the locations that each is related to; 2 or 4 for large maps.

    Zhang and Ma, Improve Object Detection with Feature-based Knowledge Distillation,
    https://openreview.net/forum?id=uKhGRvM8QNH, attention-guided and non-local distillation;
    the defaults are those of the authors' code, whose mask is of locations alone.
    """

    def __init__(
        self,
        *,
        weight: NonNegative = 1.0,
        student_channels: Count,
        teacher_channels: Count,
        tau: Positive = 0.5,
        features: NonNegative = 7e-5,
        channels: NonNegative = 4e-3,
        space: NonNegative = 4e-3,
        relations: NonNegative = 7e-5,
        pool: Count = 1,
    ) -> None:
        super().__init__(
            weight=weight, student_channels=student_channels, teacher_channels=teacher_channels
        )
        self.tau, self.weights = tau, (features, channels, space, relations)
        self.adapt = nn.Conv2d(student_channels, teacher_channels, 1)
        self.adapt_channels = nn.Linear(student_channels, teacher_channels)
        self.adapt_space = nn.Conv2d(1, 1, 3, padding=1)
        self.relate = NonLocalConnector(
            student_channels=student_channels, teacher_channels=teacher_channels, pool=pool
        )
        self.relate_teacher = NonLocalBlock(teacher_channels, pool)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the 0-dim loss of maps (N, C, H, W), each side with channels of its own."""
        mask = (self._attention(student) + self._attention(teacher)).detach() / 2
        differences = [
            mask.sqrt() * (self.adapt(student) - teacher),
            self.adapt_channels(student.mean((2, 3))) - teacher.mean((2, 3)),
            self.adapt_space(student.mean(1, keepdim=True)) - teacher.mean(1, keepdim=True),
            self.relate(student) - self.relate_teacher(teacher),
        ]
        distances = torch.stack([torch.linalg.vector_norm(d) for d in differences])
        return (distances * distances.new_tensor(self.weights)).sum()

    def _attention(self, maps: Tensor) -> Tensor:
        """Return (N, 1, H, W) attention, a mean of 1 over each image."""
        sizes = maps.abs().mean(1, keepdim=True)
        shares = (sizes.flatten(1) / self.tau).softmax(1)
        return shares.reshape(sizes.shape) * shares.shape[1]
