"""The head of FCOS."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, Positive, Strides, Whole
from razorlite.core.registry import register
from razorlite.models.heads.assignment import Assignment, pad_targets
from razorlite.models.heads.class_head import ClassLayer
from razorlite.models.heads.dense import (
    DenseHead,
    Maps,
    Size,
    centerness_of,
    join_levels,
    map_shapes,
    mean_over_ranks,
)
from razorlite.models.heads.towers import TwoTowers
from razorlite.models.layers import Norm, Scale, init_convs, prior_bias
from razorlite.models.tasks.losses import BinaryCrossEntropy, FocalLoss, IoULoss
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.ops.anchors import grid_points
from razorlite.ops.assigning import assign_by_region
from razorlite.ops.coding import boxes_to_distances, distances_to_boxes
from razorlite.structures import Target

_NO_LIMIT = 1e8
_LARGEST_ASSIGNMENT = 2**24  # images x points x objects held at a time


@register()
class FCOSHead(TwoTowers, DenseHead):
    """Two towers over every level: classes, side distances and centre-ness of each point.

    https://arxiv.org/abs/1904.01355
    """

    has_quality = True
    class_layers = (ClassLayer("conv_cls"),)

    def __init__(
        self,
        *,
        num_classes: Count,
        in_channels: Count,
        feat_channels: Count = 256,
        stacked_convs: Whole = 4,
        norm: Norm | None = "GN",
        norm_per_level: bool = False,
        conv_bias: bool | None = None,
        strides: Strides = (8, 16, 32, 64, 128),
        regress_ranges: list[tuple[float, float]] | None = None,
        center_sampling: bool = False,
        center_sample_radius: Positive = 1.5,
        norm_on_bbox: bool = False,
        bbox_activation: Literal["exp", "relu"] | None = None,
        centerness_on_reg: bool = False,
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
            conv_bias: whether the towers' convolutions have one; by default only without a norm.
            strides: image pixels per cell of each level.
            regress_ranges: per level, the longest side distance in pixels that it takes, from
                and to; by default it ends at 8 strides and begins where the level below ends.
            center_sampling: learn only points near an object's centre ...
            center_sample_radius: ... within so many strides.
            norm_on_bbox: predict distances in strides instead of pixels.
            bbox_activation: what makes distances positive: by default "relu" with
                `norm_on_bbox` and "exp" without, as published.
            centerness_on_reg: predict centre-ness from the boxes' tower.
            loss_cls: focal loss by default.
            loss_bbox: -log(IoU) by default; sees decoded boxes.
            loss_centerness: binary cross entropy by default.
            post_process: what to keep of the detections.

        Raises:
            ConfigError: the ranges are not one pair per stride, or the loss of boxes needs deltas.
        """
        super().__init__()
        self.num_classes, self.strides = num_classes, tuple(strides)
        self.regress_ranges = regress_ranges or _default_ranges(self.strides)
        self.center_radius = center_sample_radius if center_sampling else None
        self.norm_on_bbox, self.centerness_on_reg = norm_on_bbox, centerness_on_reg
        self.bbox_activation = bbox_activation or ("relu" if norm_on_bbox else "exp")
        self.loss_cls, self.loss_bbox = loss_cls or FocalLoss(), loss_bbox or IoULoss()
        self.loss_centerness = loss_centerness or BinaryCrossEntropy()
        self.post_process = post_process or PostProcess()
        self._check()
        levels = len(self.strides) if norm_per_level else None
        width = self.build_towers(
            in_channels, feat_channels, stacked_convs, norm, bias=conv_bias, levels=levels
        )
        self.conv_cls = nn.Conv2d(width, num_classes, 3, padding=1)
        self.conv_reg = nn.Conv2d(width, 4, 3, padding=1)
        self.conv_centerness = nn.Conv2d(width, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in self.strides)
        init_convs([self])
        nn.init.constant_(self.conv_cls.bias, prior_bias(0.01))  # type: ignore[arg-type]

    def forward(self, maps: Maps) -> tuple[Maps, Maps, Maps]:
        """Return class logits (N, C, H, W), distances (N, 4, H, W) and centre-ness (N, 1, H, W).

        Each is a tuple over the levels; distances are left, top, right, bottom in pixels.
        """
        towers = enumerate(self.through_towers(maps))
        levels = [self._level(*both, level) for level, both in towers]
        logits, distances, centerness = zip(*levels, strict=True)
        return logits, distances, centerness

    def _level(self, by_class: Tensor, by_box: Tensor, level: int) -> tuple[Tensor, Tensor, Tensor]:
        centerness = self.conv_centerness(by_box if self.centerness_on_reg else by_class)
        distances = self.scales[level](self.conv_reg(by_box)).float()
        distances = distances.exp() if self.bbox_activation == "exp" else distances.relu()
        if self.norm_on_bbox:
            distances = distances * self.strides[level]
        return self.conv_cls(by_class), distances, centerness

    def priors(self, logits: Maps) -> list[Tensor]:
        """Return (H * W, 2) points per level: the centres of its cells."""
        levels = zip(map_shapes(logits), self.strides, strict=True)
        return [grid_points(shape, stride, 0.5, logits[0].device) for shape, stride in levels]

    def boxes_of(self, priors: Tensor, codes: Tensor) -> Tensor:
        """Return (..., 4) boxes of (..., 2) points and distances."""
        return distances_to_boxes(priors, codes)

    def assign(
        self, raw: tuple[Maps, ...], targets: list[Target], sizes: Sequence[Size]
    ) -> Assignment:
        """Return which points learn which objects; some images at a time, to bound memory."""
        priors, (boxes, _, valid) = self.priors(raw[0]), pad_targets(targets)
        points, strides = torch.cat(priors), _per_point(self.strides, priors)
        ranges = _per_point(self.regress_ranges, priors)
        images = max(1, _LARGEST_ASSIGNMENT // max(1, len(points) * boxes.shape[1]))
        index = [
            assign_by_region(points, strides, ranges, part, part_valid, self.center_radius)
            for part, part_valid in zip(boxes.split(images), valid.split(images), strict=True)
        ]
        return Assignment.of(torch.cat(index), targets, sizes, self.num_classes)

    def losses(
        self, raw: tuple[Maps, ...], targets: list[Target], assignment: Assignment
    ) -> dict[str, Tensor]:
        """Return `loss_cls`, `loss_bbox` and `loss_centerness`.

        They are normalised by the points of objects, and boxes by the sum of their centre-ness,
        over all processes.
        """
        priors, image, row = self.priors(raw[0]), assignment.image, assignment.row
        count = mean_over_ranks(torch.tensor(len(row), device=row.device))
        logits = join_levels(raw[0], self.num_classes)
        loss_cls = self.loss_cls(logits.flatten(0, 1), assignment.labels.flatten(), count)
        unit = _per_point(self.strides if self.norm_on_bbox else [1] * len(priors), priors)[row]
        goal = boxes_to_distances(torch.cat(priors)[row], assignment.boxes)
        goal, distances = goal / unit[:, None], join_levels(raw[1], 4)[image, row] / unit[:, None]
        weight = centerness_of(goal)
        total = mean_over_ranks(weight.sum(), least=1e-6)
        logits = join_levels(raw[2], 1)[image, row, 0]
        return {
            "loss_cls": loss_cls,
            "loss_bbox": self.loss_bbox(_around(distances), _around(goal), total, weight),
            "loss_centerness": self.loss_centerness(logits, weight, count),
        }

    def _check(self) -> None:
        if len(self.regress_ranges) != len(self.strides):
            raise ConfigError(
                f"FCOSHead.regress_ranges needs one pair per stride ({len(self.strides)}), "
                f"got {len(self.regress_ranges)}"
            )
        if not getattr(self.loss_bbox, "decoded", True):
            raise ConfigError(
                f"FCOSHead.loss_bbox must compare boxes, got {type(self.loss_bbox).__name__}; "
                "use IoULoss, GIoULoss, DIoULoss or CIoULoss"
            )


def _around(distances: Tensor) -> Tensor:
    """Return boxes with these distances from the origin; IoU does not depend on where it lies."""
    return distances_to_boxes(distances.new_zeros(2), distances)


def _default_ranges(strides: tuple[int, ...]) -> list[tuple[float, float]]:
    ends = [8.0 * stride for stride in strides[:-1]]
    return list(zip([-1.0, *ends], [*ends, _NO_LIMIT], strict=True))


def _per_point(values: object, priors: list[Tensor]) -> Tensor:
    """Return one of `values`, given per level, for every point of all levels."""
    table = torch.tensor(values, dtype=torch.float32, device=priors[0].device)
    counts = torch.tensor([len(p) for p in priors], device=table.device)
    return table.repeat_interleave(counts, 0, output_size=sum(len(p) for p in priors))
