"""DETR's head: classes and boxes of a set of queries."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.ranges import Count, NonNegative
from razorlite.core.registry import register
from razorlite.models.heads.assignment import Assignment
from razorlite.models.heads.class_head import ClassHead, ClassLayer
from razorlite.models.heads.dense import Size, mean_over_ranks
from razorlite.models.tasks.assigners import HungarianAssigner
from razorlite.models.tasks.losses import GIoULoss, L1Loss
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.models.transformer import FeedForward
from razorlite.ops.assigning import BACKGROUND
from razorlite.ops.boxes import centres_to_corners, clip_each, corners_to_centres
from razorlite.structures import Detections, Frame, Target

Pair = tuple[Tensor, Tensor]


@register()
class DETRHead(ClassHead):
    """Softmax classes with "no object" last, and boxes in parts of the image.

    Every object is given to one query, and all decoder layers learn.
    https://arxiv.org/abs/2005.12872
    """

    class_layers = (ClassLayer("fc_cls", others=1),)

    def __init__(
        self,
        *,
        num_classes: Count,
        embed_dims: Count = 256,
        background_weight: NonNegative = 0.1,
        class_weight: NonNegative = 1.0,
        assigner: HungarianAssigner | None = None,
        loss_bbox: L1Loss | None = None,
        loss_iou: GIoULoss | None = None,
        post_process: PostProcess | None = None,
    ) -> None:
        """Build the layers.

        Args:
            num_classes: how many classes there are.
            embed_dims: length of the decoder's queries.
            background_weight: weight of queries without object in the cross entropy.
            class_weight: of the cross entropy among the losses.
            assigner: gives objects to queries; with the published costs by default.
            loss_bbox: on cx, cy, w, h in parts of the image; L1 times 5 by default.
            loss_iou: on corners in pixels; GIoU times 2 by default.
            post_process: what to keep; the 100 best queries by default, without suppression.
        """
        super().__init__()
        self.num_classes, self.class_weight = num_classes, class_weight
        self.background_weight = background_weight
        self.assigner = assigner or HungarianAssigner()
        self.loss_bbox = loss_bbox or L1Loss(loss_weight=5.0)
        self.loss_iou = loss_iou or GIoULoss(loss_weight=2.0)
        self.post_process = post_process or PostProcess(score_thr=0.0, iou_threshold=None)
        self.fc_cls = nn.Linear(embed_dims, num_classes + 1)
        self.reg_ffn = FeedForward(embed_dims, embed_dims, residual=False)
        self.fc_reg = nn.Linear(embed_dims, 4)

    def forward(self, queries: Tensor) -> Pair:
        """Map (L, N, Q, D) queries to (L, N, Q, C + 1) logits and (L, N, Q, 4) boxes.

        Boxes are cx, cy, w, h in parts of the image without its padding.
        """
        boxes = self.fc_reg(F.relu(self.reg_ffn(queries))).sigmoid()
        return self.fc_cls(queries), boxes

    def assign(
        self, raw: Pair, targets: list[Target], sizes: Sequence[Size]
    ) -> tuple[Assignment, ...]:
        """Return which queries learn which objects, for each decoder layer.

        Args:
            raw: what `forward` returned.
            targets: what the images show, without crowd boxes.
            sizes: per image (height, width) without padding.
        """
        scales = [_scale(raw[1], size) for size in sizes]
        objects = [corners_to_centres(t.boxes) / s for t, s in zip(targets, scales, strict=True)]
        layers = zip(raw[0].float(), raw[1].float(), strict=True)
        indices = [self._match(*layer, targets, objects) for layer in layers]
        return tuple(Assignment.of(i, targets, sizes, self.num_classes) for i in indices)

    def losses(
        self, raw: Pair, targets: list[Target], assignment: tuple[Assignment, ...]
    ) -> dict[str, Tensor]:
        """Return `loss_cls`, `loss_bbox`, `loss_iou`, and of lower layers `d0.loss_cls`, ...

        They are normalised by one layer's matched objects, classes by the queries' weights, over
        all processes.
        """
        factors = self._factors(assignment[0])
        losses = {}
        for i, layer in enumerate(zip(*raw, assignment, strict=True)):
            prefix = "" if i == len(raw[0]) - 1 else f"d{i}."
            for (name, value), factor in zip(self._sums(*layer).items(), factors, strict=True):
                losses[prefix + name] = value / factor
        return losses

    def loss(self, raw: Pair, targets: list[Target], sizes: Sequence[Size]) -> dict[str, Tensor]:
        """Return `losses` of what `assign` gives; crowd boxes do not count."""
        targets = [t.without_crowd() for t in targets]
        return self.losses(raw, targets, self.assign(raw, targets, sizes))

    def _match(
        self, logits: Tensor, boxes: Tensor, targets: list[Target], objects: list[Tensor]
    ) -> Tensor:
        """Return (N, Q) numbers of objects or BACKGROUND for (N, Q, C + 1) and (N, Q, 4)."""
        index = torch.full(logits.shape[:2], BACKGROUND, device=logits.device)
        for i, (target, own) in enumerate(zip(targets, objects, strict=True)):
            query, number = self.assigner(logits[i], boxes[i], target.labels, own)
            index[i, query] = number
        return index

    def _factors(self, assignment: Assignment) -> list[Tensor]:
        """Return what to divide the three sums by: weights of all queries, and matched objects."""
        labels, matched = assignment.labels, len(assignment.row)
        total = matched + self.background_weight * (labels.numel() - matched)
        numbers = torch.tensor([total, float(matched)], device=labels.device)
        weight, count = (mean_over_ranks(number) for number in numbers)
        return [weight, count, count]

    def _sums(self, logits: Tensor, boxes: Tensor, assignment: Assignment) -> dict[str, Tensor]:
        """Return the three sums of one layer's (N, Q, C + 1) logits and (N, Q, 4) boxes."""
        logits, image = logits.float(), assignment.image
        factor = torch.stack([_scale(boxes, size) for size in assignment.sizes])[image]
        got = boxes.float()[image, assignment.row]
        known = corners_to_centres(assignment.boxes) / factor
        corners = [centres_to_corners(b) * factor for b in (got, known)]
        return {
            "loss_cls": self.class_weight * self._cross_entropy(logits, assignment.labels),
            "loss_bbox": self.loss_bbox(got, known, 1.0),
            "loss_iou": self.loss_iou(*corners, 1.0),
        }

    def _cross_entropy(self, logits: Tensor, classes: Tensor) -> Tensor:
        weight = logits.new_ones(self.num_classes + 1)
        weight[-1] = self.background_weight
        return F.cross_entropy(logits.flatten(0, 1), classes.flatten(), weight, reduction="sum")

    def decode(self, raw: Pair, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the last layer's queries find in each image, in tensors of fixed shapes.

        Args:
            raw: what `forward` returned.
            sizes: (N, 2) height and width in pixels to scale to.

        Returns:
            (N, Q, 4) boxes in pixels, clipped to the images; (N, Q) scores, 0 where they do not
            exceed `post_process.score_thr`; (N, Q) labels.
        """
        logits, boxes = raw[0][-1].float(), raw[1][-1].float()
        scores, labels = logits.softmax(-1)[..., :-1].max(-1)
        scores = torch.where(scores > self.post_process.score_thr, scores, 0.0)
        scale = sizes.to(boxes).flip(1).repeat(1, 2)[:, None]
        return clip_each(centres_to_corners(boxes) * scale, sizes), scores, labels

    def predict(self, raw: Pair, frames: Sequence[Frame]) -> list[Detections]:
        """Return the detections of the last layer, in pixels of the original images."""
        sizes = torch.tensor([frame.original for frame in frames]).view(-1, 2)
        return [
            self.post_process.finish(boxes[score > 0], score[score > 0], labels[score > 0])
            for boxes, score, labels in zip(*self.decode(raw, sizes), strict=True)
        ]


def _scale(like: Tensor, size: Size) -> Tensor:
    """Return (4,) width, height, width, height."""
    height, width = size
    return torch.tensor([width, height, width, height], dtype=torch.float32, device=like.device)
