"""The second stages of Cascade R-CNN."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, fx, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Positive, Strides, Weights
from razorlite.core.registry import register
from razorlite.models.heads.dense import Maps, Size
from razorlite.models.heads.region_heads import FCNMaskHead, Shared2FCBBoxHead
from razorlite.models.heads.region_samples import (
    Proposals,
    Samples,
    assign_from,
    default_sampler,
)
from razorlite.models.heads.roi_head import Boxes, Losses, Regions, RoIHead, Sizes
from razorlite.models.tasks.assigners import MaxIoUAssigner
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.models.tasks.samplers import RandomSampler
from razorlite.ops.proposing import refine_regions
from razorlite.ops.regions import first_regions
from razorlite.structures import Target

fx.wrap("first_regions")
fx.wrap("refine_regions")  # it splits by image; tracing keeps it as one call


@register()
class CascadeRoIHead(RoIHead):
    """Several refinements, each learning from the boxes of the one before at a higher IoU.

    https://arxiv.org/abs/1712.00726
    """

    def __init__(
        self,
        *,
        bbox_head: list[Shared2FCBBoxHead],
        mask_head: list[FCNMaskHead] | None = None,
        stage_loss_weights: Weights = (1.0, 0.5, 0.25),
        strides: Strides = (4, 8, 16, 32),
        finest_scale: Positive = 56.0,
        assigner: list[MaxIoUAssigner] | None = None,
        sampler: RandomSampler | None = None,
        post_process: PostProcess | None = None,
    ) -> None:
        """Take the built heads.

        Args:
            bbox_head: one head per stage, class-agnostic as published.
            mask_head: one head per stage, or none; masks are averaged over the stages.
            stage_loss_weights: factor of each stage's losses.
            strides: image pixels per cell of the levels to pool from.
            finest_scale: side in pixels up to twice which boxes come from the finest level.
            assigner: one per stage; IoU 0.5, 0.6, 0.7 by default.
            sampler: 512 proposals per image, up to a quarter objects, by default.
            post_process: what to keep of the detections.

        Raises:
            ConfigError: heads, assigners and weights are not one per stage.
        """
        super().__init__()
        assigner = assigner or [assign_from(iou) for iou in (0.5, 0.6, 0.7)]
        stages = len(bbox_head)
        if {len(assigner), len(stage_loss_weights), len(mask_head or bbox_head)} != {stages}:
            raise ConfigError(
                f"CascadeRoIHead needs one of assigner, stage_loss_weights and mask_head for each "
                f"of its {stages} bbox_heads; got {len(assigner)}, {len(stage_loss_weights)} "
                f"and {len(mask_head or [])}"
            )
        self.bbox_head = nn.ModuleList(bbox_head)
        self.mask_head = nn.ModuleList(mask_head) if mask_head else None
        self.assigner, self.sampler = assigner, sampler or default_sampler()
        self.stage_loss_weights = tuple(stage_loss_weights)
        self.strides, self.finest_scale = tuple(strides), finest_scale
        self.post_process = post_process or PostProcess(min_bbox_size=-1.0)

    def raw(self, maps: Maps, boxes: list[Tensor], sizes: list[Size]) -> tuple[Maps, ...]:
        """Return (R, C + 1) logits, (R, 4 * k) deltas and mask logits, tuples over the stages.

        As in detection, there are masks of at most `post_process.max_per_img` regions per image.
        """
        logits, deltas, refined = self._stages(maps, boxes, sizes)
        if not self.mask_heads:
            return logits, deltas
        some = first_regions(refined, self.post_process.max_per_img)
        regions = self.pool(maps, some, self.mask_heads[0].roi_feat_size)
        return logits, deltas, tuple(head(regions) for head in self.mask_heads)

    def forward(self, maps: Maps, boxes: Boxes, sizes: Sizes) -> Regions:
        """Return the mean of the stages' logits, and the last one's boxes and deltas."""
        logits, deltas, boxes = self._stages(maps, boxes, sizes)
        return Regions.of(boxes, torch.stack(logits).float().mean(0), deltas[-1])

    def loss(self, raw: Proposals, targets: list[Target], sizes: Sequence[Size]) -> Losses:
        """Return `s0.loss_cls`, `s0.loss_bbox`, with masks `s0.loss_mask`, `s1.loss_cls`, ..."""
        losses = {}
        for i, weight in enumerate(self.stage_loss_weights):
            assignment = self.assign(raw, targets, sizes)
            own, logits, deltas = self.learn(raw, targets, assignment)
            boxes = self._next(i, assignment.samples, logits, deltas, sizes)
            raw = replace(raw, boxes=boxes, stage=i + 1)
            losses.update({f"s{i}.{name}": value * weight for name, value in own.items()})
        return losses

    @property
    def assigners(self) -> list[MaxIoUAssigner]:
        """The stages' assigners."""
        return self.assigner

    @property
    def bbox_heads(self) -> list[Shared2FCBBoxHead]:
        """The stages' box heads."""
        return cast(list[Shared2FCBBoxHead], list(self.bbox_head))

    @property
    def mask_heads(self) -> list[FCNMaskHead]:
        """The stages' mask heads, if there are any."""
        return cast(list[FCNMaskHead], list(self.mask_head or []))

    def _stages(self, maps: Maps, boxes: Boxes, sizes: Sizes) -> tuple[Maps, Maps, Boxes]:
        """Return every stage's logits and deltas, and the boxes that the last stage saw."""
        logits: list[Tensor] = []
        deltas: list[Tensor] = []
        for i, head in enumerate(self.bbox_heads):
            if i > 0:
                best = logits[-1][:, :-1].argmax(1)
                boxes = self._refine(i - 1, boxes, deltas[-1], best, sizes)
            raw = head(self.pool(maps, boxes, head.roi_feat_size))
            logits.append(raw[0])
            deltas.append(raw[1])
        return tuple(logits), tuple(deltas), boxes

    def _next(
        self,
        i: int,
        samples: Sequence[Samples],
        logits: Tensor,
        deltas: Tensor,
        sizes: Sequence[Size],
    ) -> list[Tensor]:
        """Return the proposals that stage `i` leaves to the next."""
        labels, boxes = torch.cat([s.labels for s in samples]), [s.boxes for s in samples]
        known = torch.where(
            labels < self.bbox_heads[i].num_classes, labels, logits[:, :-1].argmax(1)
        )
        refined = self._refine(i, boxes, deltas, known, sizes)
        return [r[~s.added] for r, s in zip(refined, samples, strict=True)]

    def _refine(self, i: int, boxes: Boxes, deltas: Tensor, labels: Tensor, sizes: Sizes) -> Boxes:
        head = self.bbox_heads[i]
        return refine_regions(boxes, deltas, labels, head.target_means, head.target_stds, sizes)
