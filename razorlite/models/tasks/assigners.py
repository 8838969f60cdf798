"""Assigners that a configuration can name."""

import torch
from torch import Tensor

from razorlite.core.ranges import Count, NonNegative, Positive, Share
from razorlite.core.registry import register
from razorlite.ops.assigning import assign_by_iou, assign_by_statistics
from razorlite.ops.dynamic_assigning import assign_by_soft_cost
from razorlite.ops.matching import match, match_costs


@register()
class MaxIoUAssigner:
    """Gives each anchor the object it overlaps most."""

    def __init__(
        self,
        *,
        pos_iou_thr: Share = 0.5,
        neg_iou_thr: Share = 0.4,
        min_pos_iou: Share = 0.0,
        match_low_quality: bool = True,
    ) -> None:
        """See `razorlite.ops.assigning.assign_by_iou`."""
        self.pos_iou_thr, self.neg_iou_thr = pos_iou_thr, neg_iou_thr
        self.min_pos_iou, self.match_low_quality = min_pos_iou, match_low_quality

    def __call__(self, anchors: Tensor, boxes: Tensor) -> Tensor:
        """Return (A,) int64 for (A, 4) anchors: an index into boxes, BACKGROUND or IGNORED."""
        return assign_by_iou(
            anchors,
            boxes,
            self.pos_iou_thr,
            self.neg_iou_thr,
            self.min_pos_iou,
            self.match_low_quality,
        )


@register()
class ATSSAssigner:
    """Gives each object its nearest anchors that overlap it more than usual."""

    def __init__(self, *, topk: Count = 9) -> None:
        """See `razorlite.ops.assigning.assign_by_statistics`."""
        self.topk = topk

    def __call__(self, anchors: Tensor, boxes: Tensor, counts: list[int]) -> Tensor:
        """Return (A,) int64 for (A, 4) anchors of which each level has so many."""
        return assign_by_statistics(anchors, counts, boxes, self.topk)


@register()
class DynamicSoftLabelAssigner:
    """Gives each object the points that predict it best, as many as do it well."""

    def __init__(
        self, *, topk: Count = 13, iou_weight: NonNegative = 3.0, soft_center_radius: Positive = 3.0
    ) -> None:
        """See `razorlite.ops.dynamic_assigning.assign_by_soft_cost`."""
        self.topk, self.iou_weight = topk, iou_weight
        self.soft_center_radius = soft_center_radius

    @torch.no_grad()
    def __call__(
        self,
        priors: Tensor,
        predicted: Tensor,
        logits: Tensor,
        boxes: Tensor,
        labels: Tensor,
        centres: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (P,) int64 assignments and the (P,) IoU of each prediction with its object.

        Args:
            priors: (P, 3) x, y and stride in pixels.
            predicted: (P, 4) boxes in pixels.
            logits: (P, C).
            boxes: (N, 4) objects in pixels.
            labels: (N,) int64.
            centres: (N, 2) of the objects in pixels; those of their boxes by default.
        """
        return assign_by_soft_cost(
            priors[:, :2],
            priors[:, 2],
            predicted.float(),
            logits.float(),
            boxes,
            labels,
            self.topk,
            self.iou_weight,
            self.soft_center_radius,
            centres,
        )


@register()
class HungarianAssigner:
    """Gives every object to one query, all together at the least cost."""

    def __init__(
        self,
        *,
        class_cost: NonNegative = 1.0,
        bbox_cost: NonNegative = 5.0,
        giou_cost: NonNegative = 2.0,
    ) -> None:
        """Weigh the costs; see `razorlite.ops.matching.match_costs`."""
        self.weights = (class_cost, bbox_cost, giou_cost)

    @torch.no_grad()
    def __call__(
        self, logits: Tensor, boxes: Tensor, labels: Tensor, objects: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the matched queries and, in the same order, their objects, (K,) int64 each.

        Args:
            logits: (Q, C + 1), "no object" last.
            boxes: (Q, 4) cx, cy, w, h in parts of the image.
            labels: (N,) int64.
            objects: (N, 4) cx, cy, w, h in parts of the image.
        """
        return match(match_costs(logits.softmax(-1), boxes, labels, objects, self.weights))
