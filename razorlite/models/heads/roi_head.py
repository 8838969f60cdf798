"""The second stage: proposals are sampled, pooled, classified, refined and masked."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, fx, nn

from razorlite.core.errors import DataError
from razorlite.core.ranges import Positive, Strides
from razorlite.core.registry import register
from razorlite.models.heads.dense import Maps, Size
from razorlite.models.heads.region_heads import FCNMaskHead, Shared2FCBBoxHead
from razorlite.models.heads.region_samples import (
    RegionLosses,
    Samples,
    assign_from,
    default_sampler,
    joined,
    sample,
)
from razorlite.models.tasks.assigners import MaxIoUAssigner
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.models.tasks.samplers import RandomSampler
from razorlite.ops.boxes import clip
from razorlite.ops.regions import crop_masks, first_regions, paste_masks, pool_regions
from razorlite.structures import Detections, Frame, Target

fx.wrap("pool_regions")  # what it reads depends on the boxes; tracing keeps it as one call
fx.wrap("first_regions")


class RoIHead(nn.Module):
    """Base of second stages: how they pool and sample.

    Attributes:
        strides: image pixels per cell of the levels that regions are pooled from.
        finest_scale: side in pixels up to twice which boxes come from the finest level.
        sampler: chooses among assigned proposals.
        post_process: what to keep of the detections.
    """

    sampler: RandomSampler
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

    def sample(
        self,
        maps: Maps,
        proposals: list[Tensor],
        targets: list[Target],
        head: Shared2FCBBoxHead,
        assigner: MaxIoUAssigner,
    ) -> list[Samples]:
        """Return the proposals of each image that `head` learns from."""
        result = []
        for i, (boxes, target) in enumerate(zip(proposals, targets, strict=True)):
            pool = partial(self._pool_one, tuple(m[i : i + 1] for m in maps), head.roi_feat_size)
            losses = RegionLosses(head, pool)
            result.append(sample(assigner, self.sampler, boxes, target, losses))
        return result

    def _pool_one(self, maps: Maps, output_size: int, boxes: Tensor) -> Tensor:
        return self.pool(maps, [boxes], output_size)


@register()
class StandardRoIHead(RoIHead):
    """One refinement of the proposals, and masks if there is a mask head."""

    def __init__(
        self,
        *,
        bbox_head: Shared2FCBBoxHead,
        mask_head: FCNMaskHead | None = None,
        strides: Strides = (4, 8, 16, 32),
        finest_scale: Positive = 56.0,
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
        """Return `losses` of what `assign` gives."""
        return self.losses(maps, self.assign(maps, proposals, targets), targets)

    def assign(self, maps: Maps, proposals: list[Tensor], targets: list[Target]) -> list[Samples]:
        """Return the proposals of each image to learn from, and their objects."""
        return self.sample(maps, proposals, targets, self.bbox_head, self.assigner)

    def losses(
        self, maps: Maps, samples: list[Samples], targets: list[Target]
    ) -> dict[str, Tensor]:
        """Return `loss_cls`, `loss_bbox` and with a mask head `loss_mask`."""
        pooled = self.pool(maps, [s.boxes for s in samples], self.bbox_head.roi_feat_size)
        logits, deltas = self.bbox_head(pooled)
        losses = self.bbox_head.loss(logits, deltas, *joined(samples, targets))
        if self.mask_head is not None:
            losses |= mask_loss(self, self.mask_head, maps, samples, targets)
        return losses

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
