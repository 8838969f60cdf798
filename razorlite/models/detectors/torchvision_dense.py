"""What torchvision's detectors of one stage compute, in tensors of fixed shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import detection

from razorlite.models.tasks.postprocess import PostProcess
from razorlite.ops.anchors import grid_anchors
from razorlite.ops.boxes import clip_each
from razorlite.ops.coding import deltas_to_boxes, distances_to_boxes
from razorlite.ops.fixed_shapes import rows_of
from razorlite.structures import Target

Maps = dict[str, Tensor]
Size = tuple[int, int]
Raw = tuple[tuple[Tensor, ...], ...]


@dataclass(frozen=True)
class DenseKind:
    """Base of what differs between the detectors of one stage.

    Attributes:
        num_classes: how many classes the head tells apart.
        settings: torchvision's own of what is kept.
        matching: what its losses read beside the head.
    """

    num_classes: int
    settings: PostProcess
    matching: SimpleNamespace

    @classmethod
    def of(cls, model: Any) -> DenseKind:
        """Return the kind of a model."""
        settings = PostProcess(
            score_thr=model.score_thresh,
            nms_pre=model.topk_candidates,
            iou_threshold=model.nms_thresh,
            max_per_img=model.detections_per_img,
            min_bbox_size=-1.0,
        )
        classes = model.head.classification_head.num_classes
        return cls(classes, settings, cls.matching_of(model))

    @staticmethod
    def matching_of(model: Any) -> SimpleNamespace:
        """Return what the losses read beside the head."""
        raise NotImplementedError

    def level(self, head: Any, maps: Tensor) -> tuple[Tensor, ...]:
        """Return (N, P, C) logits, (N, P, 4) codes and further parts of one level."""
        raise NotImplementedError

    def scores(self, raw: Sequence[Tensor]) -> Tensor:
        """Return (N, P, C) scores of what `level` returned."""
        raise NotImplementedError

    def boxes(self, anchors: Tensor, codes: Tensor) -> Tensor:
        """Return (..., 4) boxes in pixels of (..., 4) anchors and codes."""
        raise NotImplementedError

    def losses(
        self, head: Any, raw: Raw, targets: list[dict[str, Tensor]], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        """Return torchvision's losses of what `raw` returned, for (P, 4) anchors per level."""
        raise NotImplementedError

    def raw(self, model: Any, maps: Maps, size: Size) -> Raw:
        """Return what the head gives: kinds of tensors, each a tuple over the levels."""
        levels = [self.level(model.head, m) for m in maps.values()]
        return tuple(zip(*levels, strict=True))

    def loss(
        self, model: Any, images: Tensor, targets: list[Target], sizes: list[Size]
    ) -> dict[str, Tensor]:
        """Return torchvision's losses of (N, 3, H, W) images."""
        maps, size = model.features(images), (images.shape[-2], images.shape[-1])
        objects = [{"boxes": t.boxes, "labels": t.labels} for t in targets]
        anchors = level_anchors(model.anchor_generator, maps.values(), size)
        return self.losses(model.head, self.raw(model, maps, size), objects, anchors)

    def candidates(
        self, model: Any, maps: Maps, size: Size, sizes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (N, K, 4) clipped boxes, (N, K) scores, 0 in empty slots, and (N, K) labels."""
        anchors = level_anchors(model.anchor_generator, maps.values(), size)
        levels = zip(zip(*self.raw(model, maps, size), strict=True), anchors, strict=True)
        found = [self._best(raw, own, model.post_process) for raw, own in levels]
        boxes, scores, labels = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
        return clip_each(boxes, sizes), scores, labels

    def _best(
        self, raw: tuple[Tensor, ...], anchors: Tensor, settings: PostProcess
    ) -> tuple[Tensor, Tensor, Tensor]:
        scores = self.scores([x.float() for x in raw])
        values, row, labels = best_of_level(scores, settings.score_thr, settings.nms_pre)
        return self.boxes(anchors[row], rows_of(raw[1].float(), row)), values, labels

    def mask_heads(self, model: nn.Module) -> list[Any]:
        """There are none."""
        return []

    def masks(self, model: nn.Module, maps: Maps, found: Any, size: Size) -> tuple[Tensor, ...]:
        """There are none."""
        return ()

    def pool(self, maps: Any, boxes: Any, cells: int) -> Tensor:
        """Nothing is pooled."""
        raise NotImplementedError


class RetinaKind(DenseKind):
    """RetinaNet: scores of classes, and deltas of anchors."""

    @staticmethod
    def matching_of(model: Any) -> SimpleNamespace:
        """Return the matcher."""
        return SimpleNamespace(proposal_matcher=model.proposal_matcher)

    def level(self, head: Any, maps: Tensor) -> tuple[Tensor, ...]:
        """Return (N, P, C) logits and (N, P, 4) deltas."""
        return head.classification_head([maps]), head.regression_head([maps])

    def scores(self, raw: Sequence[Tensor]) -> Tensor:
        """Return the logits' sigmoid."""
        return raw[0].sigmoid()

    def boxes(self, anchors: Tensor, codes: Tensor) -> Tensor:
        """Decode deltas."""
        return deltas_to_boxes(anchors, codes)

    def losses(
        self, head: Any, raw: Raw, targets: list[dict[str, Tensor]], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        """Return the losses of classes and boxes."""
        names = ("cls_logits", "bbox_regression")
        outputs = {name: torch.cat(x, 1) for name, x in zip(names, raw, strict=True)}
        owner = SimpleNamespace(head=head, **vars(self.matching))
        each = [torch.cat(anchors)] * len(targets)
        losses: dict[str, Tensor] = detection.RetinaNet.compute_loss(owner, targets, outputs, each)
        return losses


class FCOSKind(DenseKind):
    """FCOS: scores of classes and centre-ness, and distances in units of the anchors' sides."""

    @staticmethod
    def matching_of(model: Any) -> SimpleNamespace:
        """Return how far around centres objects are learnt."""
        return SimpleNamespace(center_sampling_radius=model.center_sampling_radius)

    def level(self, head: Any, maps: Tensor) -> tuple[Tensor, ...]:
        """Return (N, P, C) logits, (N, P, 4) distances and (N, P, 1) centre-ness logits."""
        return head.classification_head([maps]), *head.regression_head([maps])

    def scores(self, raw: Sequence[Tensor]) -> Tensor:
        """Return the geometric mean of both sigmoids."""
        return (raw[0].sigmoid() * raw[2].sigmoid()).sqrt()

    def boxes(self, anchors: Tensor, codes: Tensor) -> Tensor:
        """Decode distances."""
        sides = anchors[..., 2:] - anchors[..., :2]
        return distances_to_boxes(anchors[..., :2] + sides / 2, codes * sides.repeat(1, 1, 2))

    def losses(
        self, head: Any, raw: Raw, targets: list[dict[str, Tensor]], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        """Return the losses of classes, boxes and centre-ness."""
        names = ("cls_logits", "bbox_regression", "bbox_ctrness")
        outputs = {name: torch.cat(x, 1) for name, x in zip(names, raw, strict=True)}
        owner = SimpleNamespace(head=head, **vars(self.matching))
        each, counts = [torch.cat(anchors)] * len(targets), [len(level) for level in anchors]
        losses: dict[str, Tensor] = detection.FCOS.compute_loss(
            owner, targets, outputs, each, counts
        )
        return losses


def level_anchors(generator: Any, maps: Any, size: Size) -> list[Tensor]:
    """Return (H * W * A, 4) anchors in pixels per level, as torchvision lays them.

    Its stride is the image's side over the map's, rounded down.

    Args:
        generator: torchvision's.
        maps: (N, C, H, W) per level.
        size: height and width in pixels of the padded images.
    """
    found = []
    for base, level in zip(generator.cell_anchors, maps, strict=True):
        cells = (level.shape[-2], level.shape[-1])
        strides = (size[0] // cells[0], size[1] // cells[1])
        found.append(grid_anchors(base.to(level.device).float(), cells, strides))
    return found


def best_of_level(scores: Tensor, least: float, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best pairs of anchor and class of each image: scores, anchors, labels.

    The best pairs belong to the anchors with the best classes, which are chosen first.

    Args:
        scores: (N, P, C).
        least: what they must exceed.
        limit: K.

    Returns:
        (N, K) each; scores are 0 in empty slots.
    """
    best = F.pad(scores.amax(2), (0, limit)).topk(limit)
    rows = best.indices.clamp(max=scores.shape[1] - 1)
    some = torch.where(best.values[..., None] > least, rows_of(scores, rows), 0.0).flatten(1)
    chosen = torch.where(some > least, some, 0.0).topk(limit)
    anchor = chosen.indices // scores.shape[2]
    labels = chosen.indices - anchor * scores.shape[2]
    return chosen.values, rows.gather(1, anchor), labels
