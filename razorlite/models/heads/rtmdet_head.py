"""The head of RTMDet."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.ranges import Count, Kernel, Strides, Whole
from razorlite.core.registry import register
from razorlite.models.heads.assignment import Assignment
from razorlite.models.heads.class_head import ClassLayer
from razorlite.models.heads.dense import (
    DenseHead,
    Maps,
    Size,
    join_levels,
    map_shapes,
    mean_over_ranks,
)
from razorlite.models.heads.towers import towers
from razorlite.models.layers import Activation, Norm, init_convs, prior_bias
from razorlite.models.tasks.assigners import DynamicSoftLabelAssigner
from razorlite.models.tasks.losses import GIoULoss, QualityFocalLoss
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.ops.anchors import grid_points
from razorlite.ops.coding import distances_to_boxes
from razorlite.structures import Target


def each(layers: nn.ModuleList, maps: Maps) -> Maps:
    """Return every level's map through its own layer."""
    return tuple(layer(x) for layer, x in zip(layers, maps, strict=True))


@register()
class RTMDetSepBNHead(DenseHead):
    """Two towers: classes, whose scores say how good the box is, and distances of its sides.

    All levels share the towers' convolutions, but each has its own norms and output layers.
    RTMDet, https://arxiv.org/abs/2212.07784, sections 3.2 and 3.3.
    """

    cls_convs: nn.ModuleList
    reg_convs: nn.ModuleList
    rtm_cls: nn.ModuleList
    rtm_reg: nn.ModuleList

    class_layers = (ClassLayer("rtm_cls"),)

    def __init__(
        self,
        *,
        num_classes: Count,
        in_channels: Count,
        feat_channels: Count = 256,
        stacked_convs: Whole = 2,
        strides: Strides = (8, 16, 32),
        norm: Norm | None = "BN",
        activation: Activation = "SiLU",
        pred_kernel_size: Kernel = 1,
        exp_on_reg: bool = False,
        assigner: DynamicSoftLabelAssigner | None = None,
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
            strides: image pixels per cell of each level.
            norm: kind of normalisation in the towers.
            activation: kind of activation in the towers.
            pred_kernel_size: odd side of the output layers' kernels.
            exp_on_reg: whether distances are the exponential of what the layers say.
            assigner: a point learns the object that it predicts best, by default.
            loss_cls: quality focal loss by default.
            loss_bbox: twice the GIoU loss by default; sees decoded boxes.
            post_process: what to keep of the detections; the published settings by default.
        """
        super().__init__()
        self.num_classes, self.strides = num_classes, tuple(strides)
        self.exp_on_reg = exp_on_reg
        self.assigner = assigner or DynamicSoftLabelAssigner()
        self.loss_cls = loss_cls or QualityFocalLoss()
        self.loss_bbox = loss_bbox or GIoULoss(loss_weight=2.0)
        self.post_process = post_process or PostProcess(
            score_thr=0.001, nms_pre=30000, iou_threshold=0.65, max_per_img=300
        )
        shape = (in_channels, feat_channels, stacked_convs, norm, activation)
        for name, convs in self.build_towers(*shape).items():
            self.add_module(f"{name}_convs", convs)
        width = feat_channels if stacked_convs else in_channels
        for name, channels in self.outputs.items():
            layer = (width, channels, pred_kernel_size, 1, pred_kernel_size // 2)
            layers = nn.ModuleList(nn.Conv2d(*layer) for _ in self.strides)
            self.add_module(f"rtm_{name}", layers)
        self.init_weights()

    @property
    def outputs(self) -> dict[str, int]:
        """Channels of each branch's output layers."""
        return {"cls": self.num_classes, "reg": 4}

    def build_towers(
        self,
        in_channels: int,
        channels: int,
        count: int,
        norm: Norm | None,
        activation: Activation,
    ) -> dict[str, nn.Module]:
        """Return each branch's towers, one per level."""
        shape = (in_channels, channels, count, norm, None, len(self.strides), activation)
        return {"cls": towers(*shape), "reg": towers(*shape)}

    def init_weights(self) -> None:
        """Draw the convolutions anew; scores start at 0.01, distances at one stride."""
        init_convs([self])
        start = 0.0 if self.exp_on_reg else 1.0
        for cls, reg in zip(self.rtm_cls, self.rtm_reg, strict=True):
            nn.init.constant_(cls.bias, prior_bias(0.01))  # type: ignore[arg-type]
            nn.init.constant_(reg.bias, start)  # type: ignore[arg-type]

    def forward(self, maps: Maps) -> tuple[Any, ...]:
        """Return class logits (N, C, H, W) and side distances (N, 4, H, W) in pixels per level."""
        return self.outputs_of(each(self.cls_convs, maps), each(self.reg_convs, maps))

    def outputs_of(self, by_class: Maps, by_box: Maps) -> tuple[Maps, Maps]:
        """Return logits and distances in pixels of what the towers give."""
        pairs = zip(each(self.rtm_reg, by_box), self.strides, strict=True)
        return each(self.rtm_cls, by_class), tuple(self.distances(x) * s for x, s in pairs)

    def distances(self, x: Tensor) -> Tensor:
        """Return (N, 4, H, W) distances in strides of what the output layers say."""
        return x.float().exp() if self.exp_on_reg else x.float()

    def priors(self, logits: Maps) -> list[Tensor]:
        """Return (H * W, 3) per level: x, y of the cells' corners, and stride, in pixels."""
        return [
            F.pad(grid_points(shape, stride, 0.0, logits[0].device), (0, 1), value=float(stride))
            for shape, stride in zip(map_shapes(logits), self.strides, strict=True)
        ]

    def boxes_of(self, priors: Tensor, codes: Tensor) -> Tensor:
        """Return (..., 4) boxes in pixels of (..., 3) priors and distances."""
        return distances_to_boxes(priors[..., :2], codes)

    @torch.no_grad()
    def assign(
        self, raw: tuple[Any, ...], targets: list[Target], sizes: Sequence[Size]
    ) -> Assignment:
        """Return which points learn which objects, and how well they predict them."""
        priors = torch.cat(self.priors(raw[0]))
        predicted = self.boxes_of(priors, join_levels(raw[1], 4).float())
        parts = zip(predicted, join_levels(raw[0], self.num_classes), targets, strict=True)
        found = [
            self.assigner(priors, b, x, t.boxes, t.labels, self.centres(t)) for b, x, t in parts
        ]
        index, quality = (torch.stack(rows) for rows in zip(*found, strict=True))
        return Assignment.of(index, targets, sizes, self.num_classes, quality)

    def centres(self, target: Target) -> Tensor | None:
        """Return the (N, 2) points near which objects are learnt; None for the boxes' centres."""
        return None

    def losses(
        self, raw: tuple[Any, ...], targets: list[Target], assignment: Assignment
    ) -> dict[str, Tensor]:
        """Return `loss_cls` and `loss_bbox`.

        Both are normalised by the sum of the points' qualities over all processes.
        """
        image, row, quality = assignment.image, assignment.row, assignment.quality
        assert quality is not None
        total = mean_over_ranks(quality.sum())
        logits = join_levels(raw[0], self.num_classes)
        labels = assignment.labels.flatten()
        priors = torch.cat(self.priors(raw[0]))
        predicted = self.boxes_of(priors, join_levels(raw[1], 4).float())[image, row]
        return {
            "loss_cls": self.loss_cls(logits.flatten(0, 1), labels, quality, total),
            "loss_bbox": self.loss_bbox(predicted, assignment.boxes, total, quality),
        }
