"""Heads over pooled regions: classes and boxes, and masks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.ranges import Count, Deviations, NonNegative, Share, Whole
from razorlite.core.registry import register
from razorlite.models.heads.anchor_head import Four
from razorlite.models.heads.class_head import ClassHead, ClassLayer
from razorlite.models.heads.dense import mean_over_ranks
from razorlite.models.layers import ConvModule, Norm
from razorlite.models.tasks.losses import CrossEntropy, L1Loss
from razorlite.ops.coding import boxes_to_deltas, deltas_to_boxes


@register()
class Shared2FCBBoxHead(ClassHead):
    """Two linear layers, then classes (the last is background) and box deltas.

    FPN, https://arxiv.org/abs/1612.03144, section 5.2.
    """

    class_layers = (ClassLayer("fc_cls", others=1), ClassLayer("fc_reg", each=4))

    def __init__(
        self,
        *,
        num_classes: Count,
        in_channels: Count,
        fc_out_channels: Count = 1024,
        roi_feat_size: Count = 7,
        reg_class_agnostic: bool = False,
        target_means: Four = (0.0, 0.0, 0.0, 0.0),
        target_stds: Deviations = (0.1, 0.1, 0.2, 0.2),
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
    ) -> None:
        """Build the head.

        Args:
            num_classes: how many classes there are, without background.
            in_channels: channels of the pooled regions.
            fc_out_channels: width of the linear layers.
            roi_feat_size: cells per side of the pooled regions.
            reg_class_agnostic: one box per region instead of one per class.
            target_means: subtracted from the deltas to learn.
            target_stds: what these are divided by.
            loss_cls: softmax cross entropy by default.
            loss_bbox: L1 on deltas by default; IoU losses see decoded boxes.
        """
        super().__init__()
        self.num_classes, self.roi_feat_size = num_classes, roi_feat_size
        self.reg_class_agnostic = reg_class_agnostic
        self.target_means, self.target_stds = target_means, target_stds
        self.loss_cls, self.loss_bbox = loss_cls or CrossEntropy(), loss_bbox or L1Loss()
        self.fc_cls = nn.Linear(fc_out_channels, num_classes + 1)
        self.fc_reg = nn.Linear(fc_out_channels, 4 * (1 if reg_class_agnostic else num_classes))
        self.shared_fcs = nn.ModuleList(
            [
                nn.Linear(in_channels * roi_feat_size**2, fc_out_channels),
                nn.Linear(fc_out_channels, fc_out_channels),
            ]
        )
        self._init_weights()

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Map (R, in_channels, S, S) to (R, num_classes + 1) logits and (R, 4 * k) deltas."""
        x = regions.flatten(1)
        for layer in self.shared_fcs:
            x = F.relu(layer(x))
        return self.fc_cls(x), self.fc_reg(x)

    def loss(
        self, logits: Tensor, deltas: Tensor, boxes: Tensor, labels: Tensor, goals: Tensor
    ) -> dict[str, Tensor]:
        """Return `loss_cls` and `loss_bbox`, over the number of regions of all processes.

        Args:
            logits: (R, num_classes + 1).
            deltas: (R, 4 * k).
            boxes: (R, 4) regions in pixels.
            labels: (R,) int64, `num_classes` for background.
            goals: (R, 4) boxes of the regions' objects; background rows are not read.
        """
        count = mean_over_ranks(torch.tensor(len(labels), device=labels.device))
        rows = (labels < self.num_classes).nonzero().squeeze(1)
        chosen = self.deltas_of(deltas, rows, labels[rows])
        return {
            "loss_cls": self.loss_cls(logits, labels, count),
            "loss_bbox": self._box_loss(boxes[rows], chosen, goals[rows], count),
        }

    def deltas_of(self, deltas: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
        """Return the (..., K, 4) deltas of some regions for some classes.

        Args:
            deltas: (..., R, 4 * k).
            rows: (..., K) int64, numbers of the regions.
            labels: (..., K) int64.
        """
        if self.reg_class_agnostic:
            return deltas.gather(-2, rows[..., None].expand(*rows.shape, 4))
        each: Tensor = deltas.unflatten(-1, (-1, 4)).flatten(-3, -2)
        index = rows * self.num_classes + labels
        return each.gather(-2, index[..., None].expand(*rows.shape, 4))

    def decode(self, boxes: Tensor, deltas: Tensor) -> Tensor:
        """Return (..., 4) boxes in pixels of (..., 4) regions and deltas."""
        return deltas_to_boxes(boxes, deltas.float(), self.target_means, self.target_stds)

    def _box_loss(self, boxes: Tensor, deltas: Tensor, goals: Tensor, count: Tensor) -> Tensor:
        loss: Tensor
        if self.loss_bbox.decoded:
            loss = self.loss_bbox(self.decode(boxes, deltas), goals, count)
        else:
            encoded = boxes_to_deltas(boxes, goals, self.target_means, self.target_stds)
            loss = self.loss_bbox(deltas, encoded, count)
        return loss

    def _init_weights(self) -> None:
        for layer in self.shared_fcs:
            nn.init.xavier_uniform_(layer.weight)  # type: ignore[arg-type]
        nn.init.normal_(self.fc_cls.weight, std=0.01)
        nn.init.normal_(self.fc_reg.weight, std=0.001)
        for layer in (*self.shared_fcs, self.fc_cls, self.fc_reg):
            nn.init.zeros_(layer.bias)


@register()
class FCNMaskHead(ClassHead):
    """Four convolutions, an upsampling by 2, and one mask per class.

    Mask R-CNN, https://arxiv.org/abs/1703.06870.
    """

    class_layers = (ClassLayer("conv_logits"),)

    def __init__(
        self,
        *,
        num_classes: Count,
        in_channels: Count,
        num_convs: Whole = 4,
        conv_out_channels: Count = 256,
        roi_feat_size: Count = 14,
        norm: Norm | None = None,
        mask_thr: Share = 0.5,
        loss_weight: NonNegative = 1.0,
    ) -> None:
        """Build the head.

        Args:
            num_classes: how many classes there are.
            in_channels: channels of the pooled regions.
            num_convs: 3 x 3 convolutions.
            conv_out_channels: their width.
            roi_feat_size: cells per side of the pooled regions; masks have twice as many.
            norm: kind of normalisation after the convolutions.
            mask_thr: probability from which on a pixel belongs to the object.
            loss_weight: factor of the loss.
        """
        super().__init__()
        self.num_classes, self.roi_feat_size = num_classes, roi_feat_size
        self.mask_thr, self.loss_weight = mask_thr, loss_weight
        inputs = [in_channels, *[conv_out_channels] * num_convs]
        self.convs = nn.ModuleList(
            ConvModule(c, conv_out_channels, 3, padding=1, norm=norm) for c in inputs[:num_convs]
        )
        self.upsample = nn.ConvTranspose2d(inputs[-1], conv_out_channels, 2, 2)
        self.conv_logits = nn.Conv2d(conv_out_channels, num_classes, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, regions: Tensor) -> Tensor:
        """Map (R, in_channels, S, S) to (R, num_classes, 2 S, 2 S) logits."""
        for conv in self.convs:
            regions = conv(regions)
        logits: Tensor = self.conv_logits(F.relu(self.upsample(regions)))
        return logits

    def loss(self, logits: Tensor, labels: Tensor, goals: Tensor) -> dict[str, Tensor]:
        """Return `loss_mask`, the mean over pixels of the regions of all processes.

        Args:
            logits: (R, num_classes, S, S).
            labels: (R,) int64.
            goals: (R, S, S) float, 1 where the object is.
        """
        count = mean_over_ranks(torch.tensor(len(labels), device=labels.device))
        chosen = logits[torch.arange(len(labels), device=labels.device), labels].float()
        total = F.binary_cross_entropy_with_logits(chosen, goals, reduction="sum")
        return {"loss_mask": self.loss_weight * total / (count * logits.shape[-1] ** 2)}
