"""The head of RetinaNet."""

import torch
from torch import Tensor, nn

from razorlite.core.registry import register
from razorlite.models.heads.dense import (
    DenseHead,
    Maps,
    Size,
    join_levels,
    labels_of,
    map_shapes,
    mean_over_ranks,
    pad_targets,
    tower,
)
from razorlite.models.layers import Norm, init_convs, prior_bias
from razorlite.models.tasks.anchors import AnchorGenerator
from razorlite.models.tasks.assigners import MaxIoUAssigner
from razorlite.models.tasks.losses import FocalLoss, L1Loss
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.ops.assigning import IGNORED
from razorlite.ops.coding import boxes_to_deltas, deltas_to_boxes
from razorlite.structures import Target

Four = tuple[float, float, float, float]


@register()
class RetinaHead(DenseHead):
    """Two towers over every level: classes and box deltas of each anchor.

    https://arxiv.org/abs/1708.02002
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        feat_channels: int = 256,
        stacked_convs: int = 4,
        norm: Norm | None = None,
        anchor_generator: AnchorGenerator | None = None,
        assigner: MaxIoUAssigner | None = None,
        target_means: Four = (0.0, 0.0, 0.0, 0.0),
        target_stds: Four = (1.0, 1.0, 1.0, 1.0),
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
        self.cls_convs = tower(in_channels, feat_channels, stacked_convs, norm)
        self.reg_convs = tower(in_channels, feat_channels, stacked_convs, norm)
        width = feat_channels if stacked_convs else in_channels
        self.retina_cls = nn.Conv2d(width, self.anchors.per_cell * num_classes, 3, padding=1)
        self.retina_reg = nn.Conv2d(width, self.anchors.per_cell * 4, 3, padding=1)
        init_convs([self])
        nn.init.constant_(self.retina_cls.bias, prior_bias(0.01))  # type: ignore[arg-type]

    def forward(self, maps: Maps) -> tuple[Maps, Maps]:
        """Return class logits (N, A * C, H, W) and box deltas (N, A * 4, H, W) per level."""
        logits = tuple(self.retina_cls(self.cls_convs(x)) for x in maps)
        deltas = tuple(self.retina_reg(self.reg_convs(x)) for x in maps)
        return logits, deltas

    def priors(self, logits: Maps) -> list[Tensor]:
        """Return (H * W * A, 4) anchors per level."""
        return self.anchors.grids(map_shapes(logits), logits[0])

    def decode(self, priors: Tensor, codes: Tensor) -> Tensor:
        """Return (N, 4) boxes of N anchors and deltas."""
        return deltas_to_boxes(priors, codes, self.target_means, self.target_stds)

    def loss(self, raw: tuple[Maps, ...], targets: list[Target], size: Size) -> dict[str, Tensor]:
        """Return `loss_cls` and `loss_bbox` over the number of object anchors of all processes."""
        targets = [t.without_crowd() for t in targets]
        boxes, known, _ = pad_targets(targets)
        assigned = self._assign(raw[0], targets, size)
        count = mean_over_ranks((assigned >= 0).sum(1).clamp(min=1).sum())
        labels = labels_of(assigned, known, self.num_classes)
        logits = join_levels(raw[0], self.num_classes)
        loss_cls = self.loss_cls(logits.flatten(0, 1), labels.flatten(), count)
        image, row = (assigned >= 0).nonzero(as_tuple=True)
        deltas = join_levels(raw[1], 4)[image, row]
        anchors = torch.cat(self.priors(raw[0]))[row]
        loss_bbox = self._box_loss(anchors, deltas, boxes[image, assigned[image, row]], count)
        return {"loss_cls": loss_cls, "loss_bbox": loss_bbox}

    def _assign(self, logits: Maps, targets: list[Target], size: Size) -> Tensor:
        """Return (B, P) assignments; anchors that begin in an image's padding are ignored."""
        anchors = torch.cat(self.priors(logits))
        assigned = torch.stack([self.assigner(anchors, t.boxes) for t in targets])
        for row, target in zip(assigned, targets, strict=True):
            if target.size not in (size, (0, 0)):
                inside = self.anchors.inside(map_shapes(logits), target.size)
                row[~inside.to(row.device)] = IGNORED
        return assigned

    def _box_loss(self, anchors: Tensor, deltas: Tensor, boxes: Tensor, count: Tensor) -> Tensor:
        if self.loss_bbox.decoded:
            return self.loss_bbox(self.decode(anchors, deltas.float()), boxes, count)
        goal = boxes_to_deltas(anchors, boxes, self.target_means, self.target_stds)
        return self.loss_bbox(deltas, goal, count)
