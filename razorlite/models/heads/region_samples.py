"""Which proposals a second stage learns from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from razorlite.models.heads.assignment import Assignment, Size, labels_of
from razorlite.models.heads.region_heads import Shared2FCBBoxHead
from razorlite.models.tasks.assigners import MaxIoUAssigner
from razorlite.models.tasks.samplers import RandomSampler
from razorlite.ops.assigning import BACKGROUND, IGNORED
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
class Proposals:
    """What a second stage learns from: maps, and boxes that the stage before found.

    Attributes:
        maps: (N, C, H, W) per level.
        boxes: per image (R_i, 4) pixels.
        stage: which refinement they are for, from 0.
    """

    maps: tuple[Tensor, ...]
    boxes: list[Tensor]
    stage: int = 0


@dataclass(frozen=True)
class RegionAssignment(Assignment):
    """Which of the sampled regions of a batch learn which objects; a row of P is a region.

    Images with fewer regions are filled up with IGNORED ones.

    Attributes:
        samples: the regions of each image, which the head learns from.
    """

    samples: tuple[Samples, ...] = ()

    @classmethod
    def of_samples(
        cls,
        samples: Sequence[Samples],
        targets: list[Target],
        sizes: Sequence[Size],
        num_classes: int,
    ) -> RegionAssignment:
        """Look up what the objects of the samples are.

        Args:
            samples: of the B images.
            targets: of the B images, without crowd boxes.
            sizes: (height, width) in pixels of the images, without padding.
            num_classes: how many classes there are.
        """
        rows = [_index_of(part) for part in samples]
        index = pad_sequence(rows, batch_first=True, padding_value=IGNORED)
        known = Assignment.of(index, targets, sizes, num_classes)
        return cls(**vars(known), samples=tuple(samples))

    @property
    def regions(self) -> Tensor:
        """(B, P, 4) boxes in pixels of the regions; zeros where there are fewer."""
        return pad_sequence([part.boxes for part in self.samples], batch_first=True)


def _index_of(samples: Samples) -> Tensor:
    """Return the (S,) numbers of the regions' objects, or BACKGROUND."""
    index = torch.full_like(samples.labels, BACKGROUND)
    index[: len(samples.objects)] = samples.objects
    return index


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
    """Return which of the (R, 4) proposals of one image, in pixels, to learn from."""
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


def joined(samples: Sequence[Samples], targets: list[Target]) -> tuple[Tensor, Tensor, Tensor]:
    """Return all images' boxes (R, 4), labels (R,) and the boxes of their objects (R, 4)."""
    goals = []
    for part, target in zip(samples, targets, strict=True):
        goal = torch.zeros_like(part.boxes)
        goal[: len(part.objects)] = target.boxes[part.objects].to(goal)
        goals.append(goal)
    boxes, labels = [s.boxes for s in samples], [s.labels for s in samples]
    return torch.cat(boxes), torch.cat(labels), torch.cat(goals)
