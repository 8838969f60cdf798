"""Which proposals a second stage learns from."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from razorlite.models.heads.assignment import labels_of
from razorlite.models.heads.region_heads import Shared2FCBBoxHead
from razorlite.models.tasks.assigners import MaxIoUAssigner
from razorlite.models.tasks.samplers import RandomSampler
from razorlite.ops.assigning import BACKGROUND
from razorlite.structures import Target


@dataclass(frozen=True)
class Samples:
    """The proposals of one image that a step learns from, objects first.

    Attributes:
        boxes: (S, 4) pixels.
        labels: (S,) int64, the number of classes for background.
        objects: (K,) int64, the target's object of each of the first K.
        added: (S,) bool, which boxes are the objects' own.
    """

    boxes: Tensor
    labels: Tensor
    objects: Tensor
    added: Tensor


@dataclass(frozen=True)
class RegionLosses:
    """How hard a box head finds the regions of one image, for sampling by loss.

    Attributes:
        head: the head that learns.
        pool: boxes of the image to (R, C, S, S) features.
    """

    head: Shared2FCBBoxHead
    pool: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def __call__(self, boxes: Tensor, assigned: Tensor, labels: Tensor) -> Tensor:
        """Return the (R,) cross entropies of (R, 4) boxes with their assigned objects' labels."""
        logits, _ = self.head(self.pool(boxes))
        expected = labels_of(assigned, labels, self.head.num_classes).clamp(min=0)
        return F.cross_entropy(logits.float(), expected, reduction="none")


def assign_from(threshold: float, match_low_quality: bool = False) -> MaxIoUAssigner:
    """Return an assigner with one threshold between background and objects."""
    return MaxIoUAssigner(
        pos_iou_thr=threshold,
        neg_iou_thr=threshold,
        min_pos_iou=threshold,
        match_low_quality=match_low_quality,
    )


def default_sampler() -> RandomSampler:
    """Return the usual sampler of proposals."""
    return RandomSampler(num=512, pos_fraction=0.25, add_gt_as_proposals=True)


def sample(
    assigner: MaxIoUAssigner,
    sampler: RandomSampler,
    proposals: Tensor,
    target: Target,
    losses: RegionLosses,
) -> Samples:
    """Return the proposals of one image to learn from."""
    assigned = assigner(proposals, target.boxes)
    own = torch.arange(len(target) if sampler.add_gt_as_proposals else 0, device=assigned.device)
    proposals = torch.cat((target.boxes[own].to(proposals), proposals))
    assigned = torch.cat((own, assigned))
    if sampler.by_loss:
        assigned = sampler(assigned, losses(proposals, assigned, target.labels))
    else:
        assigned = sampler(assigned)
    objects = (assigned >= 0).nonzero().squeeze(1)
    others = (assigned == BACKGROUND).nonzero().squeeze(1)
    labels = target.labels[assigned[objects]]
    background = labels.new_full((len(others),), losses.head.num_classes)
    rows = torch.cat((objects, others))
    labels = torch.cat((labels, background))
    return Samples(proposals[rows], labels, assigned[objects], rows < len(own))


def joined(samples: list[Samples], targets: list[Target]) -> tuple[Tensor, Tensor, Tensor]:
    """Return all images' boxes (R, 4), labels (R,) and the boxes of their objects (R, 4)."""
    goals = []
    for part, target in zip(samples, targets, strict=True):
        goal = torch.zeros_like(part.boxes)
        goal[: len(part.objects)] = target.boxes[part.objects].to(goal)
        goals.append(goal)
    boxes, labels = [s.boxes for s in samples], [s.labels for s in samples]
    return torch.cat(boxes), torch.cat(labels), torch.cat(goals)
