"""The second stage: proposals are sampled, pooled, classified, refined and masked."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.rnn import pad_sequence

from razorlite.core.ranges import Positive, Strides
from razorlite.core.registry import register
from razorlite.models.heads.dense import Maps, Size, sizes_of
from razorlite.models.heads.region_heads import FCNMaskHead, Shared2FCBBoxHead
from razorlite.models.heads.region_masks import mask_loss, masks_fixed, to_original
from razorlite.models.heads.region_samples import (
    Proposals,
    RegionAssignment,
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
from razorlite.ops.boxes import clip_each
from razorlite.ops.fixed_shapes import MOST_CANDIDATES, rows_of
from razorlite.ops.regions import first_regions, pool_regions
from razorlite.structures import Detections, Frame, Target

Boxes = list[Tensor] | Tensor
Sizes = Sequence[Size] | Tensor
Losses = dict[str, Tensor]

fx.wrap("pool_regions")  # what it reads depends on the boxes; tracing keeps it as one call
fx.wrap("first_regions")


@dataclass(frozen=True)
class Regions:
    """What box heads say of a batch's regions.

    Attributes:
        boxes: (N, R, 4) pixels.
        logits: (N, R, C + 1), background last.
        deltas: (N, R, 4 * k), k is 1 or the number of classes.
        filled: (N, R) bool, false in empty slots.
    """

    boxes: Tensor
    logits: Tensor
    deltas: Tensor
    filled: Tensor

    @classmethod
    def of(cls, boxes: Boxes, logits: Tensor, deltas: Tensor) -> "Regions":
        """Sort by image what heads gave; images with fewer regions get empty slots.

        Args:
            boxes: per image (R_i, 4) pixels, or (N, R, 4).
            logits: (R, C + 1) of all images' boxes.
            deltas: (R, 4 * k) of all images' boxes.
        """
        if isinstance(boxes, Tensor):
            shape = boxes.shape[:2]
            filled = torch.ones_like(boxes[..., 0], dtype=torch.bool)
            return cls(boxes, logits.unflatten(0, shape), deltas.unflatten(0, shape), filled)
        counts = [len(b) for b in boxes]
        filled = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
        return cls(
            pad_sequence(boxes, batch_first=True),
            pad_sequence(list(logits.split(counts)), batch_first=True),
            pad_sequence(list(deltas.split(counts)), batch_first=True),
            filled.to(logits.device),
        )


class RoIHead(nn.Module):
    """Base of second stages: how they pool, sample and find.

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

    @property
    def bbox_heads(self) -> list[Shared2FCBBoxHead]:
        """The box heads, one for each refinement."""
        raise NotImplementedError

    @property
    def mask_heads(self) -> list[FCNMaskHead]:
        """The mask heads, if there are any."""
        raise NotImplementedError

    def forward(self, maps: Maps, boxes: Boxes, sizes: Sizes) -> Regions:
        """Return what the box heads say of the regions.

        Args:
            maps: (N, C, H, W) per level.
            boxes: per image (R_i, 4) pixels, or (N, R, 4).
            sizes: (height, width) of each image without padding; (N, 2) where `boxes` is a tensor.
        """
        raise NotImplementedError

    def raw(self, maps: Maps, boxes: list[Tensor], sizes: list[Size]) -> tuple[Maps, ...]:
        """Return what the heads give for (R_i, 4) boxes of each image, for tracing and counting."""
        raise NotImplementedError

    def loss(self, raw: Proposals, targets: list[Target], sizes: Sequence[Size]) -> Losses:
        """Return `losses` of what `assign` gives, over all refinements; targets have no crowd."""
        raise NotImplementedError

    def assign(
        self, raw: Proposals, targets: list[Target], sizes: Sequence[Size]
    ) -> RegionAssignment:
        """Return the proposals of each image that a refinement learns from, and their objects.

        Args:
            raw: maps, the boxes of the stage before, and which refinement they are for.
            targets: what the images show, without crowd boxes.
            sizes: (height, width) in pixels of the images, without padding.
        """
        head = self.bbox_heads[raw.stage]
        samples = self.sample(raw.maps, raw.boxes, targets, head, self.assigners[raw.stage])
        return RegionAssignment.of_samples(samples, targets, sizes, head.num_classes)

    @property
    def assigners(self) -> list[MaxIoUAssigner]:
        """Which proposal learns which object, one for each refinement."""
        raise NotImplementedError

    def losses(self, raw: Proposals, targets: list[Target], assignment: RegionAssignment) -> Losses:
        """Return `loss_cls`, `loss_bbox` and with a mask head `loss_mask` of a refinement."""
        return self.learn(raw, targets, assignment)[0]

    def learn(
        self, raw: Proposals, targets: list[Target], assignment: RegionAssignment
    ) -> tuple[Losses, Tensor, Tensor]:
        """Return a refinement's losses, and its logits (R, C + 1) and deltas (R, 4 * k)."""
        head, samples = self.bbox_heads[raw.stage], assignment.samples
        boxes = [s.boxes for s in samples]
        logits, deltas = head(self.pool(raw.maps, boxes, head.roi_feat_size))
        losses = head.loss(logits, deltas, *joined(samples, targets))
        if self.mask_heads:
            mask_head = self.mask_heads[raw.stage]
            losses |= mask_loss(self.pool, mask_head, raw.maps, samples, targets)
        return losses, logits, deltas

    def decode(self, raw: Regions, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best candidates of each image before suppression, in tensors of fixed shapes.

        Args:
            raw: what `forward` returned.
            sizes: (N, 2) height and width in pixels of each image, without padding.

        Returns:
            (N, K, 4) boxes in pixels, clipped to the images; (N, K) scores, 0 in empty slots;
            (N, K) labels. K is the number of regions times that of classes, 4096 at most.
        """
        return self._candidates(raw, sizes, MOST_CANDIDATES)

    def predict(
        self, maps: Maps, proposals: list[Tensor], frames: Sequence[Frame]
    ) -> list[Detections]:
        """Return the detections of each image, in pixels of the original images.

        Args:
            maps: (N, C, H, W) per level.
            proposals: per image (R_i, 4) pixels.
            frames: where each image lies in its padding, and how large it was before.
        """
        raw = self(maps, proposals, [frame.size for frame in frames])
        parts = self._candidates(raw, sizes_of(frames), None)
        found = [
            self.post_process.finish(boxes[score > 0], score[score > 0], labels[score > 0])
            for boxes, score, labels in zip(*parts, strict=True)
        ]
        return to_original(self.pool, self.mask_heads, maps, found, frames)

    def masks(
        self, maps: Maps, boxes: Tensor, scores: Tensor, labels: Tensor, size: Size
    ) -> Tensor:
        """Return (N, M, H, W) bool masks of what was found, M as `Detector.detect` says.

        Args:
            maps: (N, C, H, W) per level.
            boxes: (N, K, 4) pixels.
            scores: (N, K), 0 in empty slots.
            labels: (N, K) int64.
            size: height and width in pixels of the masks.
        """
        return masks_fixed(self.pool, self.mask_heads, maps, boxes, scores, labels, size)

    def _candidates(
        self, raw: Regions, sizes: Tensor, limit: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the `limit` best pairs of region and class of each image, or all that count."""
        head, least = self.bbox_heads[-1], self.post_process.score_thr
        chances = raw.logits.float().softmax(-1)[..., :-1]
        counts = (chances > least) & raw.filled[..., None]
        scores = torch.where(counts, chances, 0.0).flatten(1)
        count = int((scores > 0).sum(1).max()) if limit is None else min(limit, scores.shape[1])
        index = scores.topk(count).indices.sort().values  # region by region
        region = index // head.num_classes
        labels = index - region * head.num_classes
        deltas = head.deltas_of(raw.deltas, region, labels)
        boxes = head.decode(rows_of(raw.boxes, region), deltas)
        return clip_each(boxes, sizes), scores.gather(1, index), labels

    def pool(self, maps: Maps, boxes: Boxes, output_size: int) -> Tensor:
        """Return (R, C, output_size, output_size) of all images' boxes, see `pool_regions`."""
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
        """Return which of the (R_i, 4) proposals of each image `head` learns from."""
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
        """Return (R, C + 1) logits, (R, 4 * k) deltas and mask logits of all boxes: tuples of one.

        As in detection, there are masks of at most `post_process.max_per_img` regions per image.
        """
        pooled = self.pool(maps, boxes, self.bbox_head.roi_feat_size)
        kinds = [(part,) for part in self.bbox_head(pooled)]
        if self.mask_head is not None:
            some = first_regions(boxes, self.post_process.max_per_img)
            regions = self.pool(maps, some, self.mask_head.roi_feat_size)
            kinds.append((self.mask_head(regions),))
        return tuple(kinds)

    def forward(self, maps: Maps, boxes: Boxes, sizes: Sizes) -> Regions:
        """Return what the box head says of the regions."""
        logits, deltas = self.bbox_head(self.pool(maps, boxes, self.bbox_head.roi_feat_size))
        return Regions.of(boxes, logits, deltas)

    def loss(self, raw: Proposals, targets: list[Target], sizes: Sequence[Size]) -> Losses:
        """Return `losses` of what `assign` gives."""
        return self.losses(raw, targets, self.assign(raw, targets, sizes))

    @property
    def bbox_heads(self) -> list[Shared2FCBBoxHead]:
        """The one box head."""
        return [self.bbox_head]

    @property
    def mask_heads(self) -> list[FCNMaskHead]:
        """The mask head, if there is one."""
        return [] if self.mask_head is None else [self.mask_head]

    @property
    def assigners(self) -> list[MaxIoUAssigner]:
        """The one assigner."""
        return [self.assigner]
