"""The second stages of Cascade R-CNN."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, fx, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Positive, Strides, Weights
from razorlite.core.registry import register
from razorlite.models.heads.dense import Maps, Size
from razorlite.models.heads.region_heads import FCNMaskHead, Shared2FCBBoxHead
from razorlite.models.heads.region_samples import Samples, assign_from, default_sampler, joined
from razorlite.models.heads.roi_head import RoIHead, finish, mask_loss, to_original
from razorlite.models.tasks.assigners import MaxIoUAssigner
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.models.tasks.samplers import RandomSampler
from razorlite.ops.proposing import refine_regions
from razorlite.ops.regions import first_regions
from razorlite.structures import Detections, Frame, Target

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
        """Return class logits, deltas and mask logits, each a tuple over the stages.

        As in detection, there are masks of at most `post_process.max_per_img` regions per image.
        """
        logits, deltas, boxes = self._stages(maps, boxes, sizes)
        if not self.mask_heads:
            return logits, deltas
        some = first_regions(boxes, self.post_process.max_per_img)
        regions = self.pool(maps, some, self.mask_heads[0].roi_feat_size)
        return logits, deltas, tuple(head(regions) for head in self.mask_heads)

    def loss(
        self,
        maps: Maps,
        proposals: list[Tensor],
        targets: list[Target],
        sizes: list[Size],
    ) -> dict[str, Tensor]:
        """Return `s0.loss_cls`, `s0.loss_bbox`, with masks `s0.loss_mask`, `s1.loss_cls`, ..."""
        losses = {}
        for i, weight in enumerate(self.stage_loss_weights):
            samples = self.assign(maps, proposals, targets, i)
            own, proposals = self._stage_loss(i, maps, samples, targets, sizes)
            losses.update({f"s{i}.{name}": value * weight for name, value in own.items()})
        return losses

    def assign(
        self, maps: Maps, proposals: list[Tensor], targets: list[Target], stage: int
    ) -> list[Samples]:
        """Return the proposals of each image that a stage learns from, and their objects."""
        return self.sample(maps, proposals, targets, self.bbox_heads[stage], self.assigner[stage])

    def predict(
        self, maps: Maps, proposals: list[Tensor], frames: Sequence[Frame]
    ) -> list[Detections]:
        """Return the detections of each image from the logits' mean over the stages."""
        sizes = [frame.size for frame in frames]
        logits, deltas, boxes = self._stages(maps, proposals, sizes)
        scores = torch.stack(logits).float().mean(0).softmax(1)
        counts = [len(b) for b in boxes]
        parts = zip(boxes, scores.split(counts), deltas[-1].split(counts), sizes, strict=True)
        found = [finish(self.bbox_heads[-1], self.post_process, *part) for part in parts]
        return to_original(self, self.mask_heads, maps, found, frames)

    @property
    def bbox_heads(self) -> list[Shared2FCBBoxHead]:
        """The stages' box heads."""
        return cast(list[Shared2FCBBoxHead], list(self.bbox_head))

    @property
    def mask_heads(self) -> list[FCNMaskHead]:
        """The stages' mask heads, if there are any."""
        return cast(list[FCNMaskHead], list(self.mask_head or []))

    def _stages(
        self, maps: Maps, boxes: list[Tensor], sizes: list[Size]
    ) -> tuple[Maps, Maps, list[Tensor]]:
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

    def _stage_loss(
        self,
        i: int,
        maps: Maps,
        samples: list[Samples],
        targets: list[Target],
        sizes: list[Size],
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Return the losses of stage `i` and the proposals for the next."""
        head, boxes = self.bbox_heads[i], [s.boxes for s in samples]
        logits, deltas = head(self.pool(maps, boxes, head.roi_feat_size))
        rows, labels, goals = joined(samples, targets)
        losses = head.loss(logits, deltas, rows, labels, goals)
        if self.mask_heads:
            losses |= mask_loss(self, self.mask_heads[i], maps, samples, targets)
        known = torch.where(labels < head.num_classes, labels, logits[:, :-1].argmax(1))
        refined = self._refine(i, boxes, deltas, known, sizes)
        return losses, [r[~s.added] for r, s in zip(refined, samples, strict=True)]

    def _refine(
        self, i: int, boxes: list[Tensor], deltas: Tensor, labels: Tensor, sizes: list[Size]
    ) -> list[Tensor]:
        head = self.bbox_heads[i]
        return refine_regions(boxes, deltas, labels, head.target_means, head.target_stds, sizes)
