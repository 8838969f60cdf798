"""The head of generalised focal loss."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.compute import unrounded
from razorlite.core.ranges import Count, Whole
from razorlite.core.registry import register
from razorlite.models.heads.anchor_head import AnchorHead
from razorlite.models.heads.assignment import Assignment
from razorlite.models.heads.class_head import ClassLayer
from razorlite.models.heads.dense import Maps, join_levels, map_shapes, mean_over_ranks
from razorlite.models.heads.towers import TwoTowers
from razorlite.models.layers import Norm, Scale, init_convs, prior_bias
from razorlite.models.tasks.anchors import AnchorGenerator
from razorlite.models.tasks.assigners import ATSSAssigner
from razorlite.models.tasks.losses import DistributionFocalLoss, GIoULoss, QualityFocalLoss
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.ops.boxes import paired_iou
from razorlite.ops.coding import boxes_to_distances, distances_to_boxes
from razorlite.structures import Target


class Integral(nn.Module):
    """The mean of a distribution over the integers 0 to n."""

    project: Tensor

    def __init__(self, reg_max: Count) -> None:
        """Take n."""
        super().__init__()
        self.register_buffer("project", torch.linspace(0, reg_max, reg_max + 1))

    @unrounded
    def forward(self, logits: Tensor) -> Tensor:
        """Map (..., 4 * (n + 1)) logits to (..., 4) means."""
        chances = logits.float().unflatten(-1, (4, -1)).softmax(-1)
        return F.linear(chances, self.project[None].to(chances))[..., 0]


@register()
class GFLHead(TwoTowers, AnchorHead):
    """Two towers over every level: class-wise quality, and a distribution for each side.

    https://arxiv.org/abs/2006.04388
    """

    class_layers = (ClassLayer("gfl_cls"),)

    def __init__(
        self,
        *,
        num_classes: Count,
        in_channels: Count,
        feat_channels: Count = 256,
        stacked_convs: Whole = 4,
        norm: Norm | None = "GN",
        norm_per_level: bool = False,
        reg_max: Count = 16,
        anchor_generator: AnchorGenerator | None = None,
        assigner: ATSSAssigner | None = None,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        loss_dfl: nn.Module | None = None,
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
            reg_max: longest side distance in strides that the head can express.
            anchor_generator: one square of 8 strides per cell by default.
            assigner: 9 candidates per level by default.
            loss_cls: quality focal loss by default.
            loss_bbox: twice the GIoU loss by default; sees decoded boxes.
            loss_dfl: a quarter of the distribution focal loss by default.
            post_process: what to keep of the detections; suppression at IoU 0.6 by default.
        """
        super().__init__()
        self.num_classes, self.reg_max = num_classes, reg_max
        self.anchors = anchor_generator or AnchorGenerator(ratios=(1.0,), scales=(8.0,))
        self.statistics = assigner or ATSSAssigner()
        self.loss_cls = loss_cls or QualityFocalLoss()
        self.loss_bbox = loss_bbox or GIoULoss(loss_weight=2.0)
        self.loss_dfl = loss_dfl or DistributionFocalLoss()
        self.post_process = post_process or PostProcess(iou_threshold=0.6)
        levels = len(self.anchors.strides) if norm_per_level else None
        width = self.build_towers(in_channels, feat_channels, stacked_convs, norm, levels=levels)
        self.gfl_cls = nn.Conv2d(width, num_classes, 3, padding=1)
        self.gfl_reg = nn.Conv2d(width, 4 * (reg_max + 1), 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in self.anchors.strides)
        self.integral = Integral(reg_max)
        init_convs([self])
        nn.init.constant_(self.gfl_cls.bias, prior_bias(0.01))  # type: ignore[arg-type]

    def forward(self, maps: Maps) -> tuple[Maps, Maps]:
        """Return class logits (N, C, H, W) and distributions (N, 4 * (n + 1), H, W) per level."""
        logits, sides = [], []
        for (by_class, by_box), scale in zip(self.through_towers(maps), self.scales, strict=True):
            logits.append(self.gfl_cls(by_class))
            sides.append(scale(self.gfl_reg(by_box)).float())
        return tuple(logits), tuple(sides)

    def priors(self, logits: Maps) -> list[Tensor]:
        """Return (H * W, 3) per level: the cells' x, y and stride in pixels."""
        grids = self.anchors.grids(map_shapes(logits), logits[0])
        return [
            F.pad((a[:, :2] + a[:, 2:]) / 2, (0, 1), value=float(stride))
            for a, stride in zip(grids, self.anchors.strides, strict=True)
        ]

    def boxes_of(self, priors: Tensor, codes: Tensor) -> Tensor:
        """Return (..., 4) boxes in pixels of (..., 3) priors and distributions."""
        return distances_to_boxes(priors[..., :2], self.integral(codes) * priors[..., 2:])

    def assign_one(self, anchors: Tensor, boxes: Tensor, counts: list[int]) -> Tensor:
        """Return (A,) assignments of one image's anchors."""
        return self.statistics(anchors, boxes, counts)

    def losses(
        self, raw: tuple[Maps, ...], targets: list[Target], assignment: Assignment
    ) -> dict[str, Tensor]:
        """Return `loss_cls`, `loss_bbox` and `loss_dfl`.

        Classes are normalised by the anchors of objects, the others by the sum of the scores
        that weight them, over all processes.
        """
        image, row = assignment.image, assignment.row
        priors = torch.cat(self.priors(raw[0]))[row]
        goals = assignment.boxes / priors[:, 2:]
        points = priors[:, :2] / priors[:, 2:]
        codes = join_levels(raw[1], 4 * (self.reg_max + 1))[image, row]
        found = distances_to_boxes(points, self.integral(codes))
        logits = join_levels(raw[0], self.num_classes)
        weight = logits.detach()[image, row].float().sigmoid().amax(1)
        total = mean_over_ranks(weight.sum())
        sides = boxes_to_distances(points, goals).clamp(0, self.reg_max - 0.1)
        losses = {
            "loss_bbox": self.loss_bbox(found, goals, total, weight),
            "loss_dfl": self.loss_dfl(
                codes.reshape(-1, self.reg_max + 1),
                sides.flatten(),
                4 * total,
                weight.repeat_interleave(4),
            ),
        }
        count = mean_over_ranks(self.divisor(assignment.index))
        quality = paired_iou(found.detach(), goals)
        labels = assignment.labels.flatten()
        return losses | {"loss_cls": self.loss_cls(logits.flatten(0, 1), labels, quality, count)}
