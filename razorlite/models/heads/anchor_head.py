"""What heads that refine anchor boxes share."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from razorlite.models.heads.assignment import Assignment
from razorlite.models.heads.dense import (
    DenseHead,
    Maps,
    Size,
    join_levels,
    map_shapes,
    mean_over_ranks,
)
from razorlite.models.tasks.anchors import AnchorGenerator
from razorlite.models.tasks.assigners import MaxIoUAssigner
from razorlite.ops.assigning import IGNORED
from razorlite.ops.coding import boxes_to_deltas, deltas_to_boxes
from razorlite.structures import Target

Four = tuple[float, float, float, float]


class AnchorHead(DenseHead):
    """Base of heads with class logits and box deltas per anchor.

    Sub-classes set these before training:
        anchors: the boxes of every cell.
        assigner: which anchor learns which object.
        target_means, target_stds: how deltas are scaled.
        loss_cls: takes logits, labels and a divisor; negative labels do not count.
        loss_bbox: on deltas, or on boxes if it says `decoded`.
        allowed_border: pixels by which anchors that learn may leave the image; None for any.
    """

    anchors: AnchorGenerator
    assigner: MaxIoUAssigner
    target_means: Four = (0.0, 0.0, 0.0, 0.0)
    target_stds: Four = (1.0, 1.0, 1.0, 1.0)
    loss_cls: nn.Module
    loss_bbox: nn.Module
    allowed_border: int | None = None

    def priors(self, logits: Maps) -> list[Tensor]:
        """Return (H * W * A, 4) anchors per level."""
        return self.anchors.grids(map_shapes(logits), logits[0])

    def boxes_of(self, priors: Tensor, codes: Tensor) -> Tensor:
        """Return (..., 4) boxes of (..., 4) anchors and deltas."""
        return deltas_to_boxes(priors, codes, self.target_means, self.target_stds)

    def sample(self, index: Tensor) -> Tensor:
        """Return (B, P) assignments of which some may have become IGNORED; all stay here."""
        return index

    def divisor(self, index: Tensor) -> Tensor:
        """Return what losses are divided by: object anchors of (B, P), at least one per image."""
        return (index >= 0).sum(1).clamp(min=1).sum()

    def assign(
        self, raw: tuple[Maps, ...], targets: list[Target], sizes: Sequence[Size]
    ) -> Assignment:
        """Return which anchors learn which objects.

        IGNORED are those not sampled, and anchors whose cell begins in the image's padding (see
        `AnchorGenerator.inside`), or that leave the image by more than `allowed_border`.
        """
        index = self.sample(self._index(raw[0], targets, sizes))
        return Assignment.of(index, targets, sizes, self.num_classes)

    def losses(
        self, raw: tuple[Maps, ...], targets: list[Target], assignment: Assignment
    ) -> dict[str, Tensor]:
        """Return `loss_cls` and `loss_bbox`, over the mean of `divisor` of all processes."""
        image, row = assignment.image, assignment.row
        count = mean_over_ranks(self.divisor(assignment.index))
        logits = join_levels(raw[0], self.num_classes)
        loss_cls = self.loss_cls(logits.flatten(0, 1), assignment.labels.flatten(), count)
        deltas = join_levels(raw[1], 4)[image, row]
        anchors = torch.cat(self.priors(raw[0]))[row]
        loss_bbox = self._box_loss(anchors, deltas, assignment.boxes, count)
        return {"loss_cls": loss_cls, "loss_bbox": loss_bbox}

    def _index(self, logits: Maps, targets: list[Target], sizes: Sequence[Size]) -> Tensor:
        """Return (B, P) numbers of objects, BACKGROUND or IGNORED, before sampling."""
        shapes = map_shapes(logits)
        grids = self.anchors.grids(shapes, logits[0])
        anchors, counts = torch.cat(grids), [len(g) for g in grids]
        rows = []
        for target, image in zip(targets, sizes, strict=True):
            inside = self.anchors.inside(shapes, image)
            if self.allowed_border is None and inside.all():
                rows.append(self.assign_one(anchors, target.boxes, counts))
                continue
            inside = inside.to(anchors.device)
            if self.allowed_border is not None:
                inside &= _within(anchors, image, self.allowed_border)
            row = torch.full_like(inside, IGNORED, dtype=torch.long)
            kept = [int(part.sum()) for part in inside.split(counts)]
            row[inside] = self.assign_one(anchors[inside], target.boxes, kept)
            rows.append(row)
        return torch.stack(rows)

    def assign_one(self, anchors: Tensor, boxes: Tensor, counts: list[int]) -> Tensor:
        """Return (A,) assignments of one image's anchors, of which each level has so many."""
        return self.assigner(anchors, boxes)

    def _box_loss(self, anchors: Tensor, deltas: Tensor, boxes: Tensor, count: Tensor) -> Tensor:
        loss: Tensor
        if self.loss_bbox.decoded:
            loss = self.loss_bbox(self.boxes_of(anchors, deltas.float()), boxes, count)
        else:
            goal = boxes_to_deltas(anchors, boxes, self.target_means, self.target_stds)
            loss = self.loss_bbox(deltas, goal, count)
        return loss


def _within(anchors: Tensor, image: Size, border: int) -> Tensor:
    """Return (P,) bool: which (P, 4) anchors leave the image by less than `border` pixels."""
    corner = anchors.new_tensor([image[1], image[0]]) + border
    return ((anchors[:, :2] >= -border) & (anchors[:, 2:] < corner)).all(1)
