"""What heads that refine anchor boxes share."""

import torch
from torch import Tensor, nn

from razorlite.models.heads.dense import (
    DenseHead,
    Maps,
    Size,
    join_levels,
    labels_of,
    map_shapes,
    mean_over_ranks,
    pad_targets,
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

    def decode(self, priors: Tensor, codes: Tensor) -> Tensor:
        """Return (N, 4) boxes of N anchors and deltas."""
        return deltas_to_boxes(priors, codes, self.target_means, self.target_stds)

    def sample(self, assigned: Tensor) -> Tensor:
        """Return (B, P) assignments of which some may have become IGNORED; all stay here."""
        return assigned

    def divisor(self, assigned: Tensor) -> Tensor:
        """Return what losses are divided by: object anchors, at least one per image."""
        return (assigned >= 0).sum(1).clamp(min=1).sum()

    def loss(self, raw: tuple[Maps, ...], targets: list[Target], size: Size) -> dict[str, Tensor]:
        """Return `loss_cls` and `loss_bbox`, over the mean of `divisor` of all processes."""
        targets = [t.without_crowd() for t in targets]
        boxes, known, _ = pad_targets(targets)
        assigned = self.sample(self.assign(raw[0], targets, size))
        count = mean_over_ranks(self.divisor(assigned))
        labels = labels_of(assigned, known, self.num_classes)
        logits = join_levels(raw[0], self.num_classes)
        loss_cls = self.loss_cls(logits.flatten(0, 1), labels.flatten(), count)
        image, row = (assigned >= 0).nonzero(as_tuple=True)
        deltas = join_levels(raw[1], 4)[image, row]
        anchors = torch.cat(self.priors(raw[0]))[row]
        loss_bbox = self._box_loss(anchors, deltas, boxes[image, assigned[image, row]], count)
        return {"loss_cls": loss_cls, "loss_bbox": loss_bbox}

    def assign(self, logits: Maps, targets: list[Target], size: Size) -> Tensor:
        """Return (B, P) assignments.

        IGNORED are anchors whose cell begins in the image's padding (see
        `AnchorGenerator.inside`), or that leave the image by more than `allowed_border`.
        """
        shapes = map_shapes(logits)
        grids = self.anchors.grids(shapes, logits[0])
        anchors, counts = torch.cat(grids), [len(g) for g in grids]
        rows = []
        for target in targets:
            image = target.frame(size).size
            if image == size and self.allowed_border is None:
                rows.append(self.assign_one(anchors, target.boxes, counts))
                continue
            inside = self.anchors.inside(shapes, image).to(anchors.device)
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
        if self.loss_bbox.decoded:
            return self.loss_bbox(self.decode(anchors, deltas.float()), boxes, count)
        goal = boxes_to_deltas(anchors, boxes, self.target_means, self.target_stds)
        return self.loss_bbox(deltas, goal, count)


def _within(anchors: Tensor, image: Size, border: int) -> Tensor:
    """Return (P,) bool: which (P, 4) anchors leave the image by less than `border` pixels."""
    corner = anchors.new_tensor([image[1], image[0]]) + border
    return ((anchors[:, :2] >= -border) & (anchors[:, 2:] < corner)).all(1)
