"""The head of RTMDet-Ins."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from razorlite.core.ranges import Count, Kernel, Share, Strides, Whole
from razorlite.core.registry import register
from razorlite.models.heads.assignment import Assignment
from razorlite.models.heads.dense import Maps, join_levels, mean_over_ranks, sizes_of
from razorlite.models.heads.region_masks import masks_of
from razorlite.models.heads.rtmdet_head import RTMDetSepBNHead, each
from razorlite.models.heads.towers import tower, towers
from razorlite.models.layers import Activation, ConvModule, Norm, init_convs
from razorlite.models.tasks.assigners import DynamicSoftLabelAssigner
from razorlite.models.tasks.losses import DiceLoss
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.ops.dynamic_masks import dynamic_masks, kernel_size
from razorlite.ops.fixed_shapes import filled_slots, rows_of
from razorlite.ops.regions import centres_of_mass
from razorlite.structures import Detections, Frame, Target

_WIDTH = 8  # channels between the layers of an object's network
_LAYERS = 3
_LARGEST_MASKS = 2**25  # pixels of all masks held at a time


class MaskFeatures(nn.Module):
    """All levels at the finest one's size, joined and convolved to a few prototypes."""

    def __init__(
        self,
        in_channels: Count,
        feat_channels: Count,
        stacked_convs: Whole,
        levels: int,
        prototypes: int,
        norm: Norm | None,
        activation: Activation,
    ) -> None:
        """Build the layers."""
        super().__init__()
        self.fusion_conv = nn.Conv2d(levels * in_channels, in_channels, 1)
        inputs = [in_channels, *[feat_channels] * (stacked_convs - 1)][:stacked_convs]
        self.stacked_convs = nn.Sequential(
            *[
                ConvModule(c, feat_channels, 3, padding=1, norm=norm, activation=activation)
                for c in inputs
            ]
        )
        width = feat_channels if stacked_convs else in_channels
        self.projection = nn.Conv2d(width, prototypes, 1)

    def forward(self, maps: Maps) -> Tensor:
        """Return (N, prototypes, H, W) at the size of the first map."""
        size = maps[0].shape[-2:]
        others = [F.interpolate(x, size=size, mode="bilinear") for x in maps[1:]]
        out: Tensor = self.projection(
            self.stacked_convs(self.fusion_conv(torch.cat((maps[0], *others), 1)))
        )
        return out


@register()
class RTMDetInsSepBNHead(RTMDetSepBNHead):
    """RTMDet's head that also says the weights of a small network for each object's mask.

    RTMDet, https://arxiv.org/abs/2212.07784, section 3.5.
    """

    has_masks = True
    kernel_convs: nn.ModuleList
    rtm_kernel: nn.ModuleList

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
        num_prototypes: Count = 8,
        mask_stacked_convs: Whole = 4,
        mask_loss_stride: Count = 4,
        mask_thr: Share = 0.5,
        assigner: DynamicSoftLabelAssigner | None = None,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        loss_mask: nn.Module | None = None,
        post_process: PostProcess | None = None,
    ) -> None:
        """Build the head; see `RTMDetSepBNHead` for the other arguments.

        Args:
            num_classes: how many classes there are.
            in_channels: channels of every level.
            feat_channels: channels inside the towers.
            stacked_convs: convolutions of each tower.
            strides: image pixels per cell of each level.
            norm: kind of normalisation in the towers.
            activation: kind of activation in the towers.
            pred_kernel_size: odd side of the output layers' kernels.
            num_prototypes: channels of the mask features.
            mask_stacked_convs: convolutions of the mask features.
            mask_loss_stride: image pixels from one that the mask loss sees to the next.
            mask_thr: score from which on a pixel belongs to an object.
            assigner: which points learn which objects.
            loss_cls: quality focal loss by default.
            loss_bbox: twice the GIoU loss by default.
            loss_mask: twice the dice loss by default.
            post_process: what to keep of the detections; the published settings by default.
        """
        self.kernel_channels = kernel_size(num_prototypes, _WIDTH, _LAYERS)
        super().__init__(
            num_classes=num_classes,
            in_channels=in_channels,
            feat_channels=feat_channels,
            stacked_convs=stacked_convs,
            strides=strides,
            norm=norm,
            activation=activation,
            pred_kernel_size=pred_kernel_size,
            assigner=assigner,
            loss_cls=loss_cls,
            loss_bbox=loss_bbox,
            post_process=post_process
            or PostProcess(score_thr=0.05, nms_pre=1000, iou_threshold=0.6, max_per_img=100),
        )
        self.loss_mask = loss_mask or DiceLoss(loss_weight=2.0)
        self.mask_loss_stride, self.mask_thr = mask_loss_stride, mask_thr
        self.mask_head = MaskFeatures(
            in_channels,
            feat_channels,
            mask_stacked_convs,
            len(self.strides),
            num_prototypes,
            norm,
            activation,
        )
        init_convs([self.mask_head])

    @property
    def outputs(self) -> dict[str, int]:
        """Channels of each branch's output layers."""
        return {**super().outputs, "kernel": self.kernel_channels}

    def build_towers(
        self,
        in_channels: int,
        channels: int,
        count: int,
        norm: Norm | None,
        activation: Activation,
    ) -> dict[str, nn.Module]:
        """Return each branch's towers, one per level.

        As in the published models classes and boxes have one tower for both, and the levels'
        kernel towers share nothing.
        """
        shape = (in_channels, channels, count, norm, None)
        both = towers(*shape, len(self.strides), activation)
        kernel = nn.ModuleList(tower(*shape, activation) for _ in self.strides)
        return {"cls": both, "reg": both, "kernel": kernel}

    def forward(self, maps: Maps) -> tuple[Any, ...]:
        """Return class logits, side distances in pixels and kernels per level, and one map.

        That is (N, C, H, W), (N, 4, H, W) and (N, K, H, W) per level, and the (N, prototypes, H, W)
        mask features of the finest level's size.
        """
        both = each(self.cls_convs, maps)
        kernels = each(self.rtm_kernel, each(self.kernel_convs, maps))
        return *self.outputs_of(both, both), kernels, self.mask_head(maps)

    def distances(self, x: Tensor) -> Tensor:
        """Return (N, 4, H, W) distances in strides of what the output layers say, at least 0."""
        return F.relu(x.float())

    def losses(
        self, raw: tuple[Any, ...], targets: list[Target], assignment: Assignment
    ) -> dict[str, Tensor]:
        """Return `loss_cls`, `loss_bbox` and `loss_mask`.

        The last is normalised by the number of points that learn an object, over all processes.

        Raises:
            DataError: a target with objects has no masks.
        """
        losses = super().losses(raw, targets, assignment)
        return losses | {"loss_mask": self._mask_loss(raw, targets, assignment)}

    def centres(self, target: Target) -> Tensor | None:
        """Return the (N, 2) centres of mass of the objects' masks, in pixels."""
        return centres_of_mass(masks_of(target)) if len(target) else None

    def _mask_loss(
        self, raw: tuple[Any, ...], targets: list[Target], assignment: Assignment
    ) -> Tensor:
        kernels, features = join_levels(raw[2], self.kernel_channels), raw[3]
        priors = torch.cat(self.priors(raw[0]))
        count = mean_over_ranks(features.new_tensor(float(len(assignment.row)), dtype=torch.float))
        # Without any object the loss is 0, but still a function of all that makes masks.
        total: Tensor = (features.sum() + kernels.sum()) * 0.0
        limit = self._at_a_time(features.shape[-2:])
        for i, target in enumerate(targets):
            rows = assignment.row[assignment.image == i].split(limit)
            for part in rows if rows[0].numel() else ():
                masks = masks_of(target)[assignment.index[i, part]]
                args = (features[i], kernels[i, part], priors[part], masks, count)
                if len(rows) > 1:  # many objects: work each part out again for its gradient
                    total = total + checkpoint(self._part_loss, *args, use_reentrant=False)
                else:
                    total = total + self._part_loss(*args)
        return total

    def _at_a_time(self, cells: Sequence[int]) -> int:
        """Return how many objects' masks over a batch's images are held at a time."""
        return max(1, _LARGEST_MASKS // (cells[0] * cells[1] * self.strides[0] ** 2))

    def _part_loss(
        self, features: Tensor, kernels: Tensor, priors: Tensor, masks: Tensor, count: Tensor
    ) -> Tensor:
        """Return the mask loss of some objects of one image."""
        logits = self._masks(features, kernels, priors, self.strides[0] // self.mask_loss_stride)
        step = self.mask_loss_stride
        seen = masks[:, step // 2 :: step, step // 2 :: step]
        seen = seen[:, : logits.shape[1], : logits.shape[2]]
        goals = F.pad(
            seen, (0, logits.shape[2] - seen.shape[2], 0, logits.shape[1] - seen.shape[1])
        )
        loss: Tensor = self.loss_mask(logits, goals.to(logits), count)
        return loss

    def _masks(self, features: Tensor, kernels: Tensor, priors: Tensor, scale: int) -> Tensor:
        """Return logits of K objects at `scale` times the size of the features, (..., K, H, W)."""
        logits = dynamic_masks(features, kernels, priors, self.strides[0], _WIDTH, _LAYERS)
        size = (logits.shape[-2] * scale, logits.shape[-1] * scale)
        scaled = F.interpolate(logits.flatten(0, -3)[:, None], size=size, mode="bilinear")
        masks: Tensor = scaled[:, 0].unflatten(0, logits.shape[:-2])
        return masks

    def predict(self, raw: tuple[Any, ...], frames: Sequence[Frame]) -> list[Detections]:
        """Return the detections of every image; masks cover the original image."""
        candidates = self.candidates(raw, sizes_of(frames), trim=True)
        kernels, priors = join_levels(raw[2], self.kernel_channels), torch.cat(self.priors(raw[0]))
        result = []
        for i, frame in enumerate(frames):
            found, row = candidates.detections(i, self.post_process, frame)
            masks = self._draw(raw[3][i], kernels[i, row], priors[row], frame)
            result.append(replace(found, masks=masks))
        return result

    def detect(self, raw: tuple[Any, ...], sizes: Tensor) -> tuple[Tensor, ...]:
        """Return boxes, scores, labels and masks in tensors of fixed shapes.

        Args:
            raw: what `forward` returned.
            sizes: (N, 2) height and width in pixels of each image, without padding.

        Returns:
            As `Detector.detect`; masks cover all cells of the mask features.
        """
        found = self.candidates(raw, sizes)
        index, scores = self.post_process.rows_fixed(found.boxes, found.scores, found.labels)
        slots = filled_slots(scores)
        row = found.row.gather(1, index)[:, slots]
        kernels = rows_of(join_levels(raw[2], self.kernel_channels), row)
        priors = torch.cat(self.priors(raw[0]))[row]
        logits = self._masks(raw[3], kernels, priors, self.strides[0])
        masks = (logits > self._least) & (scores[:, slots] > 0)[..., None, None]
        return rows_of(found.boxes, index), scores, found.labels.gather(1, index), masks

    @property
    def _least(self) -> float:
        """The logit above which a pixel belongs to an object."""
        return math.log(self.mask_thr / (1 - self.mask_thr))

    def _draw(self, features: Tensor, kernels: Tensor, priors: Tensor, frame: Frame) -> Tensor:
        """Return (K, *frame.original) bool masks of K objects."""
        (height, width), original = frame.size, frame.original
        masks = torch.zeros((len(kernels), *original), dtype=torch.bool, device=features.device)
        limit = min(
            self._at_a_time(features.shape[-2:]),
            max(1, _LARGEST_MASKS // (original[0] * original[1])),
        )
        for start in range(0, len(kernels), limit):
            part = slice(start, start + limit)
            logits = self._masks(features, kernels[part], priors[part], self.strides[0])
            inside = logits[:, None, :height, :width]
            if original != frame.size:
                inside = F.interpolate(inside, size=original, mode="bilinear")
            masks[part] = inside[:, 0] > self._least
        return masks
