"""What a small DETR3D learns from a large one's queries."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from projects.detr3d.boxes import CODE
from razorlite.core.ranges import Count, NonNegative
from razorlite.core.registry import register
from razorlite.distill import Scene, Term
from razorlite.ops.matching import match

_HEAD = "pts_bbox_head"
_METRES = 0.25  # weight of the distance of codes in matching and in the loss, as in DETR3D


@register()
class QueryDistillation(Term):
    """The student's queries give the classes and boxes of the teacher's best ones.

    Queries of two models have nothing to do with each other by their numbers. Those of the teacher
    that score highest are matched with the student's one to one, by the same costs that objects are
    matched by, and each of the student's matched queries learns the teacher's chances and box code,
    weighted by the teacher's score. The last layers of both are compared.

    DETRDistill, https://arxiv.org/abs/2211.10156, section 3.1, in three dimensions.
    """

    name = "queries"
    student_taps = (_HEAD,)
    teacher_taps = (_HEAD,)

    def __init__(
        self, *, best: Count = 100, class_weight: NonNegative = 1.0, box_weight: NonNegative = 0.25
    ) -> None:
        """Keep the settings.

        Args:
            best: how many of the teacher's queries teach, in each frame.
            class_weight: of the cross entropy with the teacher's chances.
            box_weight: of the L1 distance of box codes.
        """
        super().__init__()
        self.best, self.class_weight, self.box_weight = best, class_weight, box_weight

    def forward(self, scene: Scene) -> dict[str, Tensor]:
        """Return the losses of classes and of boxes, scalars."""
        student, teacher = (_last(side.raw(_HEAD)) for side in (scene.student, scene.teacher))
        frames = [self._frame(*frame) for frame in zip(*student, *teacher, strict=True)]
        classes, boxes = torch.stack(frames).mean(0)
        return {"classes": self.class_weight * classes, "boxes": self.box_weight * boxes}

    def _frame(self, logits: Tensor, codes: Tensor, known: Tensor, expected: Tensor) -> Tensor:
        """Return (2,) losses of a frame.

        Args:
            logits: (Q, C) of the student.
            codes: (Q, 10) of the student.
            known: (P, C) logits of the teacher.
            expected: (P, 10) codes of the teacher.
        """
        chances = known.sigmoid()
        scores, rows = chances.amax(1).topk(min(self.best, len(known), len(logits)))
        chances, expected = chances[rows], expected[rows]
        query, place = match(_costs(logits, codes, chances, expected))
        weight = scores[place] / scores.sum()
        entropy = F.binary_cross_entropy_with_logits(
            logits[query], chances[place], reduction="none"
        )
        apart = (codes[query] - expected[place]).abs()
        return torch.stack([(entropy.sum(1) * weight).sum(), (apart.sum(1) * weight).sum()])


@torch.no_grad()
def _costs(logits: Tensor, codes: Tensor, chances: Tensor, expected: Tensor) -> Tensor:
    """Return (Q, K) costs of giving a query of the student to one of the teacher's best K."""
    classes = torch.cdist(logits.sigmoid(), chances, p=1)
    return classes + _METRES * torch.cdist(codes[:, :8], expected[:, :8], p=1)


def _last(raw: Any) -> tuple[Tensor, Tensor]:
    """Return the last layer's (B, Q, C) logits and (B, Q, 10) codes."""
    logits, codes = raw[0][-1].float(), raw[1][-1].float()
    assert codes.shape[-1] == CODE
    return logits, codes
