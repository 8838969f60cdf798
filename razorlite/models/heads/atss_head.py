"""The head of ATSS."""

import torch
from torch import Tensor, nn

from razorlite.core.ranges import Count, Deviations, Whole
from razorlite.core.registry import register
from razorlite.models.heads.anchor_head import AnchorHead, Four
from razorlite.models.heads.assignment import Assignment
from razorlite.models.heads.class_head import ClassLayer
from razorlite.models.heads.dense import Maps, centerness_of, join_levels, mean_over_ranks
from razorlite.models.heads.towers import TwoTowers
from razorlite.models.layers import Norm, Scale, init_convs, prior_bias
from razorlite.models.tasks.anchors import AnchorGenerator
from razorlite.models.tasks.assigners import ATSSAssigner
from razorlite.models.tasks.losses import BinaryCrossEntropy, FocalLoss, GIoULoss
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.ops.coding import boxes_to_distances
from razorlite.structures import Target


@register()
class ATSSHead(TwoTowers, AnchorHead):
    """Two towers over every level: classes, box deltas and centre-ness of one square anchor.

    https://arxiv.org/abs/1912.02424
    """

    has_quality = True

    class_layers = (ClassLayer("atss_cls"),)

    def __init__(
        self,
        *,
        num_classes: Count,
        in_channels: Count,
        feat_channels: Count = 256,
        stacked_convs: Whole = 4,
        norm: Norm | None = "GN",
        norm_per_level: bool = False,
        anchor_generator: AnchorGenerator | None = None,
        assigner: ATSSAssigner | None = None,
        target_means: Four = (0.0, 0.0, 0.0, 0.0),
        target_stds: Deviations = (0.1, 0.1, 0.2, 0.2),
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        loss_centerness: nn.Module | None = None,
        post_process: PostProcess | None = None,
    ) -> None:
        """Build the head.

        Args:
            num_classes: how many classes there are.
            in_channels: channels of every level.
            feat_channels: channels inside the towers.
            stacked_convs: convolutions of each tower.
            norm: kind of normalisation in the towers.
            norm_per_level: share only the convolutions between levels and give each level norms
                of its own. Batch norm needs it: one level's statistics do not fit another's.
            anchor_generator: one square of 8 strides per cell by default.
            assigner: 9 candidates per level by default.
            target_means: subtracted from the deltas to learn.
            target_stds: what these are divided by.
            loss_cls: focal loss by default.
            loss_bbox: twice the GIoU loss by default; sees decoded boxes.
            loss_centerness: binary cross entropy by default.
            post_process: what to keep of the detections; suppression at IoU 0.6 by default.
        """
        super().__init__()
        self.num_classes = num_classes
        self.anchors = anchor_generator or AnchorGenerator(ratios=(1.0,), scales=(8.0,))
        self.statistics = assigner or ATSSAssigner()
        self.target_means, self.target_stds = target_means, target_stds
        self.loss_cls = loss_cls or FocalLoss()
        self.loss_bbox = loss_bbox or GIoULoss(loss_weight=2.0)
        self.loss_centerness = loss_centerness or BinaryCrossEntropy()
        self.post_process = post_process or PostProcess(iou_threshold=0.6)
        levels = len(self.anchors.strides) if norm_per_level else None
        width = self.build_towers(in_channels, feat_channels, stacked_convs, norm, levels=levels)
        per_cell = self.anchors.per_cell
        self.atss_cls = nn.Conv2d(width, per_cell * num_classes, 3, padding=1)
        self.atss_reg = nn.Conv2d(width, per_cell * 4, 3, padding=1)
        self.atss_centerness = nn.Conv2d(width, per_cell, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in self.anchors.strides)
        init_convs([self])
        nn.init.constant_(self.atss_cls.bias, prior_bias(0.01))  # type: ignore[arg-type]

    def forward(self, maps: Maps) -> tuple[Maps, Maps, Maps]:
        """Return class logits, box deltas and centre-ness logits, each a tuple over levels."""
        logits, deltas, centerness = [], [], []
        for (by_class, by_box), scale in zip(self.through_towers(maps), self.scales, strict=True):
            logits.append(self.atss_cls(by_class))
            deltas.append(scale(self.atss_reg(by_box)).float())
            centerness.append(self.atss_centerness(by_box))
        return tuple(logits), tuple(deltas), tuple(centerness)

    def assign_one(self, anchors: Tensor, boxes: Tensor, counts: list[int]) -> Tensor:
        """Return (A,) assignments of one image's anchors."""
        return self.statistics(anchors, boxes, counts)

    def losses(
        self, raw: tuple[Maps, ...], targets: list[Target], assignment: Assignment
    ) -> dict[str, Tensor]:
        """Return `loss_cls`, `loss_bbox` and `loss_centerness`.

        They are normalised by the anchors of objects, and boxes by the sum of their centre-ness,
        over all processes.
        """
        image, row, goals = assignment.image, assignment.row, assignment.boxes
        count = mean_over_ranks(self.divisor(assignment.index))
        logits = join_levels(raw[0], self.num_classes)
        loss_cls = self.loss_cls(logits.flatten(0, 1), assignment.labels.flatten(), count)
        anchors = torch.cat(self.priors(raw[0]))[row]
        found = self.boxes_of(anchors, join_levels(raw[1], 4)[image, row])
        weight = centerness_of(boxes_to_distances((anchors[:, :2] + anchors[:, 2:]) / 2, goals))
        total = mean_over_ranks(weight.sum())
        centerness = join_levels(raw[2], 1)[image, row, 0]
        return {
            "loss_cls": loss_cls,
            "loss_bbox": self.loss_bbox(found, goals, total, weight),
            "loss_centerness": self.loss_centerness(centerness, weight, count),
        }
