"""Terms over second stages: what they say of the same regions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from razorlite.core.compute import full_precision
from razorlite.core.errors import ConfigError
from razorlite.core.ranges import NonNegative, Positive
from razorlite.core.registry import register
from razorlite.distill.losses.base import kl
from razorlite.distill.roles import head_named
from razorlite.distill.scene import Scene, Term
from razorlite.models.heads.dense import Maps
from razorlite.models.heads.region_heads import Shared2FCBBoxHead
from razorlite.models.heads.roi_head import RoIHead


@register()
class SharedProposals(Term):
    """What the second stages say of the same regions: those that the student's samples.

    Classes by tau^2 * KL(teacher || student), a mean over the regions; deltas by their mean
    squared difference where the regions are objects, in the units of the heads.

    Wants second stages of razorlite with equal classes on both sides.

    Chen et al., Learning Efficient Object Detection Models with Knowledge Distillation, NeurIPS
    2017, section 3.2 and 3.3, without weights for background.

    Args:
        student: name of the student's second stage.
        teacher: name of the teacher's.
        teacher_maps: what the teacher pools its regions from, as recorded.
        cls_weight: factor of the classes' loss.
        box_weight: factor of the boxes' loss.
        tau: temperature.
    """

    name = "proposals"
    compares_classes = True

    def __init__(
        self,
        *,
        student: str = "roi_head",
        teacher: str = "roi_head",
        teacher_maps: str = "neck",
        cls_weight: NonNegative = 1.0,
        box_weight: NonNegative = 1.0,
        tau: Positive = 1.0,
    ) -> None:
        super().__init__()
        self.student, self.teacher, self.teacher_maps = student, teacher, teacher_maps
        self.cls_weight, self.box_weight, self.tau = cls_weight, box_weight, tau
        self.student_taps = (f"{student}.learn()", f"{student}.assign()")
        self.teacher_taps = (teacher_maps,)

    def forward(self, scene: Scene) -> dict[str, Tensor]:
        """Return the losses `cls` and `box`.

        Raises:
            ConfigError: a side has no second stage, or their classes or boxes do not fit.
        """
        head = _roi_head(scene.teacher.model, self.teacher)
        maps = tuple(scene.teacher.taps[self.teacher_maps])
        stages = list(
            zip(
                scene.student.taps.calls(f"{self.student}.assign()"),
                scene.student.taps.calls(f"{self.student}.learn()"),
                _as_many(head, scene, self.student),
                strict=True,
            )
        )
        parts = [self._stage(head, maps, own, found, learnt) for found, learnt, own in stages]
        return {key: sum(p[key] for p in parts) / len(parts) for key in ("cls", "box")}  # type: ignore[misc]

    def _stage(
        self, head: RoIHead, maps: Maps, own: Shared2FCBBoxHead, found: Any, learnt: Any
    ) -> dict[str, Tensor]:
        boxes, labels = ([getattr(s, k) for s in found.samples] for k in ("boxes", "labels"))
        with torch.no_grad():
            goals = own(head.pool(maps, boxes, own.roi_feat_size))
        sides = list(zip(learnt[1:], goals, strict=True))
        if any(ours.shape != theirs.shape for ours, theirs in sides):
            shapes = [tuple(part.shape[1:]) for side in sides for part in side]
            raise ConfigError(
                f"SharedProposals: the second stages give logits and deltas of other sizes "
                f"({shapes}); use equal classes and reg_class_agnostic on both sides"
            )
        with full_precision(maps[0].device):
            return self._compare(torch.cat(labels) < own.num_classes, sides)

    def _compare(
        self, objects: Tensor, sides: Sequence[tuple[Tensor, Tensor]]
    ) -> dict[str, Tensor]:
        """Return the losses of one stage.

        Args:
            objects: (R,) bool, which regions are objects.
            sides: (R, C + 1) logits and (R, 4 * k) deltas of student and teacher.
        """
        (logits, other_logits), (deltas, other_deltas) = (
            (ours.float(), theirs.float()) for ours, theirs in sides
        )
        cls = kl(logits, other_logits, 1, self.tau)
        box = (deltas - other_deltas).square().mean(1)[objects]
        return {
            "cls": self.cls_weight * cls.sum() / max(1, len(cls)),
            "box": self.box_weight * box.sum() / max(1, len(box)),
        }


def _roi_head(model: nn.Module, name: str) -> RoIHead:
    return head_named(model, name, RoIHead, "a second stage")


def _as_many(head: RoIHead, scene: Scene, name: str) -> list[Shared2FCBBoxHead]:
    """Return the teacher's box heads, one for each of the student's."""
    own = _roi_head(scene.student.model, name)
    if len(own.bbox_heads) != len(head.bbox_heads):
        raise ConfigError(
            f"SharedProposals: the student refines {len(own.bbox_heads)} times, the teacher "
            f"{len(head.bbox_heads)} times; use second stages of one kind"
        )
    return head.bbox_heads
