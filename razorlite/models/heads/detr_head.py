"""DETR's head: classes and boxes of a set of queries."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.registry import register
from razorlite.models.heads.dense import Size, mean_over_ranks
from razorlite.models.tasks.assigners import HungarianAssigner
from razorlite.models.tasks.losses import GIoULoss, L1Loss
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.models.transformer import FeedForward
from razorlite.ops.boxes import centres_to_corners, clip, corners_to_centres
from razorlite.structures import Detections, Frame, Target

Pair = tuple[Tensor, Tensor]


@register()
class DETRHead(nn.Module):
    """Softmax classes with "no object" last, and boxes in parts of the image.

    Every object is given to one query, and all decoder layers learn.
    https://arxiv.org/abs/2005.12872
    """

    def __init__(
        self,
        *,
        num_classes: int,
        embed_dims: int = 256,
        background_weight: float = 0.1,
        class_weight: float = 1.0,
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

    def loss(self, raw: Pair, targets: list[Target], sizes: Sequence[Size]) -> dict[str, Tensor]:
        """Return `loss_cls`, `loss_bbox`, `loss_iou`, and of lower layers `d0.loss_cls`, ...

        Args:
            raw: what `forward` returned.
            targets: what the images show.
            sizes: per image (height, width) without padding.
        """
        targets = [t.without_crowd() for t in targets]
        scales = [_scale(raw[1], size) for size in sizes]
        objects = [corners_to_centres(t.boxes) / s for t, s in zip(targets, scales, strict=True)]
        factors = self._factors(raw[1], targets)
        losses = {}
        for i, (logits, boxes) in enumerate(zip(*raw, strict=True)):
            prefix = "" if i == len(raw[0]) - 1 else f"d{i}."
            layer = self._layer_loss(logits.float(), boxes.float(), targets, objects, scales)
            for (name, value), factor in zip(layer.items(), factors, strict=True):
                losses[prefix + name] = value / factor
        return losses

    def _factors(self, boxes: Tensor, targets: list[Target]) -> list[Tensor]:
        """Return what to divide the three losses by: one layer's weights and matched objects."""
        matched = sum(min(len(t), boxes.shape[2]) for t in targets)
        rest = boxes.shape[1] * boxes.shape[2] - matched
        weight = mean_over_ranks(boxes.new_tensor(matched + self.background_weight * rest))
        count = mean_over_ranks(boxes.new_tensor(float(matched)))
        return [weight, count, count]

    def _layer_loss(
        self,
        logits: Tensor,
        boxes: Tensor,
        targets: list[Target],
        objects: list[Tensor],
        scales: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return the three sums of one layer's (N, Q, C + 1) logits and (N, Q, 4) boxes."""
        classes = torch.full(logits.shape[:2], self.num_classes, device=logits.device)
        pred, want, scale = [], [], []
        for i, (target, wanted) in enumerate(zip(targets, objects, strict=True)):
            query, number = self.assigner(logits[i], boxes[i], target.labels, wanted)
            classes[i, query] = target.labels[number]
            pred.append(boxes[i, query])
            want.append(wanted[number])
            scale.append(scales[i].expand(len(query), 4))
        got, known, factor = torch.cat(pred), torch.cat(want), torch.cat(scale)
        corners = [centres_to_corners(b) * factor for b in (got, known)]
        return {
            "loss_cls": self.class_weight * self._cross_entropy(logits, classes),
            "loss_bbox": self.loss_bbox(got, known, 1.0),
            "loss_iou": self.loss_iou(*corners, 1.0),
        }

    def _cross_entropy(self, logits: Tensor, classes: Tensor) -> Tensor:
        weight = logits.new_ones(self.num_classes + 1)
        weight[-1] = self.background_weight
        return F.cross_entropy(logits.flatten(0, 1), classes.flatten(), weight, reduction="sum")

    def predict(self, raw: Pair, frames: Sequence[Frame]) -> list[Detections]:
        """Return the detections of the last layer, in pixels of the original images."""
        logits, boxes = raw[0][-1].float(), raw[1][-1].float()
        scores, labels = logits.softmax(-1)[..., :-1].max(-1)
        return [
            self._detections(centres_to_corners(boxes[i]), scores[i], labels[i], frame.original)
            for i, frame in enumerate(frames)
        ]

    def _detections(
        self, corners: Tensor, scores: Tensor, labels: Tensor, size: Size
    ) -> Detections:
        kept = scores > self.post_process.score_thr
        boxes = clip(corners * _scale(corners, size), size)
        return self.post_process.finish(boxes[kept], scores[kept], labels[kept])


def _scale(like: Tensor, size: Size) -> Tensor:
    """Return (4,) width, height, width, height."""
    height, width = size
    return torch.tensor([width, height, width, height], dtype=torch.float32, device=like.device)
