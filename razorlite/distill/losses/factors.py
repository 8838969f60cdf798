"""Factors of a teacher's map, paraphrased, and of a student's, translated."""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.ranges import Count, NonNegative, Positive, Whole
from razorlite.core.registry import register
from razorlite.distill.losses.base import LayeredLoss
from razorlite.distill.scene import Scene


@register()
class FactorTransfer(LayeredLoss):
    """Mean absolute difference of factors that networks make of the maps.

    A paraphraser learns to write the teacher's map in fewer channels and to read it again, for so
    many steps; then it is frozen, and the student's translator learns to give the same factors,
    scaled to unit length per image.

    Args:
        weight: factor of the loss; 200 to 1000 in the paper, whose loss is a mean, too.
        student_channels: channels of the student's map.
        teacher_channels: channels of the teacher's map.
        rate: channels of the factors, as a share of the teacher's.
        paraphraser_steps: training steps in which the paraphraser learns and the student does not,
            from the first one with distillation on; where the loss is called directly without the
            number of a step, each call is one.

    Kim et al., Paraphrasing Complex Network: Network Compression via Factor Transfer,
    https://arxiv.org/abs/1802.04977, reconstruction and factor transfer loss.
    """

    steps: Tensor

    def __init__(
        self,
        *,
        weight: NonNegative = 1.0,
        student_channels: Count,
        teacher_channels: Count,
        rate: Positive = 0.5,
        paraphraser_steps: Whole,
    ) -> None:
        super().__init__(
            weight=weight, student_channels=student_channels, teacher_channels=teacher_channels
        )
        self.paraphraser_steps = paraphraser_steps
        factors = max(1, round(rate * teacher_channels))
        self.paraphraser = _layers([teacher_channels, teacher_channels, factors, factors])
        self.reader = _layers([factors, factors, teacher_channels, teacher_channels])
        self.translator = _layers([student_channels, student_channels, factors, factors])
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._step: int | None = None

    def known(self, scene: Scene) -> dict[str, Any]:
        """Return the number of the training step."""
        return {"step": scene.step}

    def compare(self, student: Tensor, teacher: Tensor, *, step: int | None = None) -> Tensor:
        """Return the 0-dim loss of maps (N, C, H, W), each side with channels of its own.

        Args:
            student: of the student.
            teacher: of the teacher.
            step: number of the training step, which may compare several levels, paths and batches.
        """
        learning = self.paraphraser_steps > 0 and not student.is_meta
        if learning and self._begun(step) <= self.paraphraser_steps:
            return F.mse_loss(self.reader(self.paraphraser(teacher)), teacher)
        with torch.no_grad():
            theirs = _unit(self.paraphraser(teacher))
        return F.l1_loss(_unit(self.translator(student)), theirs)

    def _begun(self, step: int | None) -> int:
        """Return how many steps have begun, with the one of this number."""
        if step is None or step != self._step:
            self._step = step
            self.steps += 1
        return int(self.steps)


def _unit(factors: Tensor) -> Tensor:
    """Return (N, values) of unit length."""
    return F.normalize(factors.flatten(1), dim=1)


def _layers(widths: list[int]) -> nn.Sequential:
    """Return three 3 x 3 convolutions of these widths, leaky ReLUs between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.LeakyReLU(0.1, inplace=True)]
    return nn.Sequential(*layers[:-1])
