"""The head of RetinaNet."""

from torch import nn

from razorlite.core.ranges import Count, Deviations, Whole
from razorlite.core.registry import register
from razorlite.models.heads.anchor_head import AnchorHead, Four
from razorlite.models.heads.class_head import ClassLayer
from razorlite.models.heads.dense import Maps
from razorlite.models.heads.towers import TwoTowers
from razorlite.models.layers import Norm, init_convs, prior_bias
from razorlite.models.tasks.anchors import AnchorGenerator
from razorlite.models.tasks.assigners import MaxIoUAssigner
from razorlite.models.tasks.losses import FocalLoss, L1Loss
from razorlite.models.tasks.postprocess import PostProcess


@register()
class RetinaHead(TwoTowers, AnchorHead):
    """Two towers over every level: classes and box deltas of each anchor.

    https://arxiv.org/abs/1708.02002
    """

    class_layers = (ClassLayer("retina_cls"),)

    def __init__(
        self,
        *,
        num_classes: Count,
        in_channels: Count,
        feat_channels: Count = 256,
        stacked_convs: Whole = 4,
        norm: Norm | None = None,
        norm_per_level: bool = False,
        anchor_generator: AnchorGenerator | None = None,
        assigner: MaxIoUAssigner | None = None,
        target_means: Four = (0.0, 0.0, 0.0, 0.0),
        target_stds: Deviations = (1.0, 1.0, 1.0, 1.0),
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
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
            anchor_generator: three ratios at three sizes from 4 strides on by default.
            assigner: an anchor is an object from IoU 0.5 on and background below 0.4 by default.
            target_means: subtracted from the deltas to learn.
            target_stds: what these are divided by.
            loss_cls: focal loss by default.
            loss_bbox: L1 on deltas by default; IoU losses see decoded boxes.
            post_process: what to keep of the detections.
        """
        super().__init__()
        self.num_classes = num_classes
        self.anchors = anchor_generator or AnchorGenerator(octave_base_scale=4, scales_per_octave=3)
        self.assigner = assigner or MaxIoUAssigner()
        self.target_means, self.target_stds = target_means, target_stds
        self.loss_cls, self.loss_bbox = loss_cls or FocalLoss(), loss_bbox or L1Loss()
        self.post_process = post_process or PostProcess()
        levels = len(self.anchors.strides) if norm_per_level else None
        width = self.build_towers(in_channels, feat_channels, stacked_convs, norm, levels=levels)
        self.retina_cls = nn.Conv2d(width, self.anchors.per_cell * num_classes, 3, padding=1)
        self.retina_reg = nn.Conv2d(width, self.anchors.per_cell * 4, 3, padding=1)
        init_convs([self])
        nn.init.constant_(self.retina_cls.bias, prior_bias(0.01))  # type: ignore[arg-type]

    def forward(self, maps: Maps) -> tuple[Maps, Maps]:
        """Return class logits (N, A * C, H, W) and box deltas (N, A * 4, H, W) per level."""
        levels = [
            (self.retina_cls(by_class), self.retina_reg(by_box))
            for by_class, by_box in self.through_towers(maps)
        ]
        logits, deltas = zip(*levels, strict=True)
        return logits, deltas
