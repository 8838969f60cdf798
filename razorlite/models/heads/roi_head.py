"""The second stage: proposals are sampled, pooled, classified, refined and masked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from razorlite.core.errors import DataError
from razorlite.core.registry import register
from razorlite.models.heads.dense import Maps, Size, labels_of
from razorlite.models.heads.region_heads import FCNMaskHead, Shared2FCBBoxHead
from razorlite.models.tasks.assigners import MaxIoUAssigner
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.models.tasks.samplers import RandomSampler
from razorlite.ops.assigning import BACKGROUND
from razorlite.ops.boxes import clip
from razorlite.ops.regions import crop_masks, first_regions, paste_masks, pool_regions
from razorlite.structures import Detections, Frame, Target

fx.wrap("pool_regions")  # what it reads depends on the boxes; tracing keeps it as one call
fx.wrap("first_regions")


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
class Judge:
    """How hard a box head finds the regions of one image.

    Attributes:
        head: the head that learns.
        pool: boxes of the image to (R, C, S, S) features.
    """

    head: Shared2FCBBoxHead
    pool: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def losses(self, boxes: Tensor, assigned: Tensor, labels: Tensor) -> Tensor:
        """Return the (R,) cross entropies of (R, 4) boxes with their assigned objects' labels."""
        logits, _ = self.head(self.pool(boxes))
        wanted = labels_of(assigned, labels, self.head.num_classes).clamp(min=0)
        return F.cross_entropy(logits.float(), wanted, reduction="none")


class RoIHead(nn.Module):
    """Base of second stages: how they pool and sample.

    Attributes:
        strides: image pixels per cell of the levels that regions are pooled from.
        finest_scale: side in pixels up to twice which boxes come from the finest level.
        post_process: what to keep of the detections.
    """

    strides: tuple[int, ...]
    finest_scale: float
    post_process: PostProcess

    def raw(self, maps: Maps, boxes: list[Tensor], sizes: list[Size]) -> tuple[Maps, ...]:
        """Return what the heads give for boxes of each image, for tracing and counting."""
        raise NotImplementedError

    def loss(
        self,
        maps: Maps,
        proposals: list[Tensor],
        targets: list[Target],
        sizes: list[Size],
    ) -> dict[str, Tensor]:
        """Return named scalars to be summed; targets are without crowd."""
        raise NotImplementedError

    def predict(
        self, maps: Maps, proposals: list[Tensor], frames: Sequence[Frame]
    ) -> list[Detections]:
        """Return the detections of each image, in pixels of the original images."""
        raise NotImplementedError

    def pool(self, maps: Maps, boxes: list[Tensor], output_size: int) -> Tensor:
        """Return (R, C, output_size, output_size) of all images' boxes."""
        used = maps[: len(self.strides)]
        return pool_regions(used, boxes, self.strides, output_size, self.finest_scale)

    def judge(self, head: Shared2FCBBoxHead, maps: Maps, image: int) -> Judge:
        """Return what tells how hard `head` finds the regions of one image of the batch."""
        own = tuple(m[image : image + 1] for m in maps)
        return Judge(head, lambda boxes: self.pool(own, [boxes], head.roi_feat_size))


@register()
class StandardRoIHead(RoIHead):
    """One refinement of the proposals, and masks if there is a mask head."""

    def __init__(
        self,
        *,
        bbox_head: Shared2FCBBoxHead,
        mask_head: FCNMaskHead | None = None,
        strides: tuple[int, ...] = (4, 8, 16, 32),
        finest_scale: float = 56.0,
        assigner: MaxIoUAssigner | None = None,
        sampler: RandomSampler | None = None,
        post_process: PostProcess | None = None,
    ) -> None:
        """Take the built heads.

        Args:
            bbox_head: classes and boxes of regions.
            mask_head: masks of regions; needs targets with masks.
            strides: image pixels per cell of the levels to pool from.
            finest_scale: side in pixels up to twice which boxes come from the finest level.
            assigner: a proposal is an object from IoU 0.5 on by default.
            sampler: 512 proposals per image, up to a quarter objects, by default.
            post_process: what to keep of the detections.
        """
        super().__init__()
        self.bbox_head, self.mask_head = bbox_head, mask_head
        self.strides, self.finest_scale = tuple(strides), finest_scale
        self.assigner = assigner or assign_from(0.5, match_low_quality=mask_head is not None)
        self.sampler = sampler or default_sampler()
        self.post_process = post_process or PostProcess(min_bbox_size=-1.0)

    def raw(self, maps: Maps, boxes: list[Tensor], sizes: list[Size]) -> tuple[Maps, ...]:
        """Return class logits and deltas of all boxes, and mask logits: tuples of one.

        As in detection, there are masks of at most `post_process.max_per_img` regions per image.
        """
        pooled = self.pool(maps, boxes, self.bbox_head.roi_feat_size)
        kinds = [(part,) for part in self.bbox_head(pooled)]
        if self.mask_head is not None:
            some = first_regions(boxes, self.post_process.max_per_img)
            regions = self.pool(maps, some, self.mask_head.roi_feat_size)
            kinds.append((self.mask_head(regions),))
        return tuple(kinds)

    def loss(
        self,
        maps: Maps,
        proposals: list[Tensor],
        targets: list[Target],
        sizes: list[Size],
    ) -> dict[str, Tensor]:
        """Return `loss_cls`, `loss_bbox` and with a mask head `loss_mask`."""
        samples = [
            sample(self.assigner, self.sampler, p, t, self.judge(self.bbox_head, maps, i))
            for i, (p, t) in enumerate(zip(proposals, targets, strict=True))
        ]
        pooled = self.pool(maps, [s.boxes for s in samples], self.bbox_head.roi_feat_size)
        logits, deltas = self.bbox_head(pooled)
        losses = self.bbox_head.loss(logits, deltas, *joined(samples, targets))
        return losses | self._mask_loss(maps, samples, targets)

    def predict(
        self, maps: Maps, proposals: list[Tensor], frames: Sequence[Frame]
    ) -> list[Detections]:
        """Return the detections of each image, with masks if there is a mask head."""
        pooled = self.pool(maps, proposals, self.bbox_head.roi_feat_size)
        logits, deltas = self.bbox_head(pooled)
        counts = [len(p) for p in proposals]
        parts = zip(
            proposals, logits.float().softmax(1).split(counts), deltas.split(counts), strict=True
        )
        found = [
            finish(self.bbox_head, self.post_process, *part, frame.size)
            for part, frame in zip(parts, frames, strict=True)
        ]
        mask_heads = [] if self.mask_head is None else [self.mask_head]
        return to_original(self, mask_heads, maps, found, frames)

    def _mask_loss(
        self, maps: Maps, samples: list[Samples], targets: list[Target]
    ) -> dict[str, Tensor]:
        if self.mask_head is None:
            return {}
        return mask_loss(self, self.mask_head, maps, samples, targets)


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
    judge: Judge,
) -> Samples:
    """Return the proposals of one image to learn from."""
    assigned = assigner(proposals, target.boxes)
    own = torch.arange(len(target) if sampler.add_gt_as_proposals else 0, device=assigned.device)
    proposals = torch.cat((target.boxes[own].to(proposals), proposals))
    assigned = torch.cat((own, assigned))
    if sampler.by_loss:
        assigned = sampler(assigned, judge.losses(proposals, assigned, target.labels))
    else:
        assigned = sampler(assigned)
    objects = (assigned >= 0).nonzero().squeeze(1)
    others = (assigned == BACKGROUND).nonzero().squeeze(1)
    labels = target.labels[assigned[objects]]
    background = labels.new_full((len(others),), judge.head.num_classes)
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


def finish(
    head: Shared2FCBBoxHead,
    settings: PostProcess,
    proposals: Tensor,
    scores: Tensor,
    deltas: Tensor,
    size: Size,
) -> Detections:
    """Return the detections of one image from (R, C + 1) scores and (R, 4 * k) deltas."""
    rows, labels = (scores[:, :-1] > settings.score_thr).nonzero(as_tuple=True)
    boxes = head.decode(proposals[rows], head.deltas_of(deltas, rows, labels))
    return settings.finish(clip(boxes, size), scores[rows, labels], labels)


def mask_loss(
    owner: RoIHead,
    head: FCNMaskHead,
    maps: Maps,
    samples: list[Samples],
    targets: list[Target],
) -> dict[str, Tensor]:
    """Return `loss_mask` of the sampled objects."""
    boxes = [s.boxes[: len(s.objects)] for s in samples]
    labels = torch.cat([s.labels[: len(s.objects)] for s in samples])
    logits = head(owner.pool(maps, boxes, head.roi_feat_size))
    goals = [
        crop_masks(masks_of(t), s.objects, b, logits.shape[-1])
        for t, s, b in zip(targets, samples, boxes, strict=True)
    ]
    return head.loss(logits, labels, torch.cat(goals))


def masks_of(target: Target) -> Tensor:
    """Return the (N, H, W) masks of a target; DataError if it has none."""
    if target.masks is None:
        raise DataError(
            f"image {target.image_id} has no masks to learn from; load them with the data set, "
            "or leave mask_head out"
        )
    return target.masks


def to_original(
    owner: RoIHead,
    heads: Sequence[FCNMaskHead],
    maps: Maps,
    found: list[Detections],
    frames: Sequence[Frame],
) -> list[Detections]:
    """Return detections of the batch in the original images, with masks if there are heads.

    Several heads' masks are averaged.
    """
    scaled = [
        replace(d, boxes=frame.to_original(d.boxes)) for d, frame in zip(found, frames, strict=True)
    ]
    if not heads:
        return scaled
    regions = owner.pool(maps, [d.boxes for d in found], heads[0].roi_feat_size)
    chances = torch.stack([head(regions).float().sigmoid() for head in heads]).mean(0)
    result = []
    parts = chances.split([len(d) for d in found])
    for d, part, frame in zip(scaled, parts, frames, strict=True):
        own = part[torch.arange(len(d), device=part.device), d.labels]
        masks = paste_masks(own, d.boxes, frame.original, heads[0].mask_thr)
        result.append(replace(d, masks=masks))
    return result
