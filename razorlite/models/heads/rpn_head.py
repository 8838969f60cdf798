"""The region proposal network."""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from razorlite.core.ranges import Count, Deviations, Whole
from razorlite.core.registry import register
from razorlite.models.heads.anchor_head import AnchorHead, Four
from razorlite.models.heads.assignment import Assignment
from razorlite.models.heads.dense import Maps, Size
from razorlite.models.layers import init_convs
from razorlite.models.tasks.anchors import AnchorGenerator
from razorlite.models.tasks.assigners import MaxIoUAssigner
from razorlite.models.tasks.losses import L1Loss, ObjectnessLoss
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.models.tasks.samplers import RandomSampler
from razorlite.ops.assigning import BACKGROUND
from razorlite.ops.proposing import propose_fixed, propose_regions
from razorlite.structures import Target

fx.wrap("propose_regions")  # its loops depend on the maps; tracing keeps it as one call

_STRIDES = (4, 8, 16, 32, 64)


@register()
class RPNHead(AnchorHead):
    """Objectness and box deltas of each anchor; its best boxes are proposals for a RoI head.

    Faster R-CNN, https://arxiv.org/abs/1506.01497.
    """

    num_classes = 1
    class_agnostic = True

    def __init__(
        self,
        *,
        in_channels: Count,
        feat_channels: Count = 256,
        anchor_generator: AnchorGenerator | None = None,
        assigner: MaxIoUAssigner | None = None,
        sampler: RandomSampler | None = None,
        target_means: Four = (0.0, 0.0, 0.0, 0.0),
        target_stds: Deviations = (1.0, 1.0, 1.0, 1.0),
        allowed_border: Whole | None = None,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        train_proposals: PostProcess | None = None,
        test_proposals: PostProcess | None = None,
    ) -> None:
        """Build the head.

        Args:
            in_channels: channels of every level.
            feat_channels: channels of the first convolution.
            anchor_generator: squares of 8 strides and two other ratios by default.
            assigner: an anchor is an object from IoU 0.7 on, background below 0.3 by default.
            sampler: 256 anchors per image, up to half of them objects, by default.
            target_means: subtracted from the deltas to learn.
            target_stds: what these are divided by.
            allowed_border: pixels by which anchors that learn may leave the image; None for any.
            loss_cls: binary cross entropy by default.
            loss_bbox: L1 on deltas by default.
            train_proposals: how many proposals to make in training (2000 per level, 1000 after
                suppression at IoU 0.7 by default).
            test_proposals: the same for detection (1000 per level, 1000 in all).
        """
        super().__init__()
        self.anchors = anchor_generator or AnchorGenerator(strides=_STRIDES, scales=(8,))
        self.assigner = assigner or MaxIoUAssigner(
            pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3
        )
        self.sampler = sampler or RandomSampler(num=256)
        self.target_means, self.target_stds = target_means, target_stds
        self.allowed_border = allowed_border
        self.loss_cls, self.loss_bbox = loss_cls or ObjectnessLoss(), loss_bbox or L1Loss()
        self.train_proposals = train_proposals or _proposals(2000)
        self.test_proposals = test_proposals or _proposals(1000)
        self.rpn_conv = nn.Conv2d(in_channels, feat_channels, 3, padding=1)
        self.rpn_cls = nn.Conv2d(feat_channels, self.anchors.per_cell, 1)
        self.rpn_reg = nn.Conv2d(feat_channels, self.anchors.per_cell * 4, 1)
        init_convs([self])

    def forward(self, maps: Maps) -> tuple[Maps, Maps]:
        """Return objectness logits (N, A, H, W) and box deltas (N, A * 4, H, W) per level."""
        hidden = [F.relu(self.rpn_conv(x)) for x in maps]
        return tuple(self.rpn_cls(x) for x in hidden), tuple(self.rpn_reg(x) for x in hidden)

    def sample(self, index: Tensor) -> Tensor:
        """Return (B, P) assignments of which the unsampled have become IGNORED."""
        return torch.stack([self.sampler(row) for row in index])

    def divisor(self, index: Tensor) -> Tensor:
        """Return the number of sampled anchors of (B, P), at least one of each kind per image."""
        objects = (index >= 0).sum(1).clamp(min=1)
        return (objects + (index == BACKGROUND).sum(1).clamp(min=1)).sum()

    def assign(
        self, raw: tuple[Maps, ...], targets: list[Target], sizes: Sequence[Size]
    ) -> Assignment:
        """Return which anchors learn which objects, whose class is 0."""
        return super().assign(raw, [_without_classes(t) for t in targets], sizes)

    def losses(
        self, raw: tuple[Maps, ...], targets: list[Target], assignment: Assignment
    ) -> dict[str, Tensor]:
        """Return `loss_rpn_cls` and `loss_rpn_bbox`, over the sampled anchors of all processes."""
        losses = super().losses(raw, targets, assignment)
        return {name.replace("loss_", "loss_rpn_"): value for name, value in losses.items()}

    def propose(
        self, raw: tuple[Maps, ...], sizes: list[Size], settings: PostProcess
    ) -> list[Tensor]:
        """Return per image (K, 4) boxes in pixels, best first, without gradient.

        Args:
            raw: what `forward` returned.
            sizes: (height, width) to clip to, one per image.
            settings: how many; suppression is within a level.
        """
        return propose_regions(raw[0], raw[1], *self._coding(), sizes, *_limits(settings))

    def propose_fixed(
        self, raw: tuple[Maps, ...], sizes: Tensor, settings: PostProcess
    ) -> tuple[Tensor, Tensor]:
        """Return what `propose` does, in tensors of fixed shapes.

        Args:
            raw: what `forward` returned.
            sizes: (N, 2) height and width in pixels to clip to.
            settings: how many; suppression is within a level.

        Returns:
            (N, K, 4) boxes in pixels, best first; (N, K) scores, 0 in empty slots.
        """
        return propose_fixed(raw[0], raw[1], *self._coding(), sizes, *_limits(settings))

    def _coding(self) -> tuple[list[Tensor], tuple[int, ...], Four, Four]:
        anchors = self.anchors
        return anchors.base, anchors.strides, self.target_means, self.target_stds


def _limits(settings: PostProcess) -> tuple[int, float | None, int, float]:
    return settings.nms_pre, settings.iou_threshold, settings.max_per_img, settings.min_bbox_size


def _proposals(per_level: int) -> PostProcess:
    return PostProcess(score_thr=0.0, nms_pre=per_level, iou_threshold=0.7, max_per_img=1000)


def _without_classes(target: Target) -> Target:
    return replace(target, labels=torch.zeros_like(target.labels))
