"""What torchvision's detectors of two stages compute, in tensors of fixed shapes."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align

from razorlite.models.detectors.torchvision_dense import Maps, Raw, Size
from razorlite.models.heads.region_masks import masks_fixed, masks_of
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.ops.boxes import clip_each
from razorlite.ops.coding import deltas_to_boxes
from razorlite.ops.fixed_shapes import MOST_CANDIDATES, rows_of
from razorlite.ops.proposing import propose_fixed
from razorlite.ops.regions import Boxes, merge_levels, region_levels, with_images
from razorlite.structures import Target

_CELLS = 14.0  # of the finest map, up to twice which boxes have per side that come from it
_SIDE = 256  # pixels of the image that tells the strides of the maps


@dataclass(frozen=True)
class MaskHead:
    """torchvision's mask head with the face of ours.

    Attributes:
        roi_heads: torchvision's.
        roi_feat_size: cells per side of the pooled regions.
        mask_thr: probability from which on a pixel belongs to the object.
    """

    roi_heads: Any
    roi_feat_size: int
    mask_thr: float = 0.5

    def __call__(self, regions: Tensor) -> Tensor:
        """Map (R, C, S, S) to (R, num_classes, 2 S, 2 S) logits, without background."""
        logits: Tensor = self.roi_heads.mask_predictor(self.roi_heads.mask_head(regions))
        return logits[:, 1:]


@dataclass(frozen=True)
class RegionKind:
    """Faster R-CNN and Mask R-CNN.

    Attributes:
        num_classes: how many classes the head tells apart, without background.
        settings: torchvision's own of what is kept.
        strides: image pixels per cell of the maps that regions are pooled from.
        sampling_ratio: points per side of a pooled cell.
    """

    num_classes: int
    settings: PostProcess
    strides: tuple[int, ...]
    sampling_ratio: int

    @classmethod
    def of(cls, model: Any) -> RegionKind:
        """Return the kind of a model."""
        heads = model.roi_heads
        settings = PostProcess(
            score_thr=heads.score_thresh,
            iou_threshold=heads.nms_thresh,
            max_per_img=heads.detections_per_img,
            min_bbox_size=1e-2,
        )
        strides = _strides(model.backbone, heads.box_roi_pool.featmap_names)
        classes = _outputs_of(heads.box_predictor.cls_score) - 1
        ratio = heads.box_roi_pool.sampling_ratio
        return cls(classes, settings, strides, ratio)

    def raw(self, model: Any, maps: Maps, size: Size) -> Raw:
        """Return the proposals' logits and deltas per level, then what the heads give for all."""
        proposed = model.rpn.head(list(maps.values()))
        boxes, _ = self._propose(model, maps, size, _whole(maps, size))
        levels = tuple(maps.values())
        kinds = [(x,) for x in self._box_outputs(model, levels, boxes)]
        for head in self.mask_heads(model):
            some = boxes[:, : model.post_process.max_per_img]
            kinds.append((head(self.pool(levels, some, head.roi_feat_size)),))
        return *(tuple(x) for x in proposed), *kinds

    def loss(
        self, model: Any, images: Tensor, targets: list[Target], sizes: list[Size]
    ) -> dict[str, Tensor]:
        """Return torchvision's losses of (N, 3, H, W) images."""
        maps = OrderedDict(model.features(images))
        objects = [self._object(model, target) for target in targets]
        with _learning(model.rpn, model.roi_heads):
            boxes, proposing = model.rpn(ImageList(images, sizes), maps, objects)
            _, losses = model.roi_heads(maps, boxes, sizes, objects)
        return {**proposing, **losses}

    def candidates(
        self, model: Any, maps: Maps, size: Size, sizes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (N, K, 4) clipped boxes, (N, K) scores, 0 in empty slots, and (N, K) labels."""
        boxes, filled = self._propose(model, maps, size, sizes)
        logits, deltas = self._box_outputs(model, tuple(maps.values()), boxes)
        shape = boxes.shape[:2]
        chances = logits.float().softmax(-1)[:, 1:].unflatten(0, shape)
        counts = (chances > model.post_process.score_thr) & (filled > 0)[..., None]
        scores = torch.where(counts, chances, 0.0).flatten(1)
        best = scores.topk(min(MOST_CANDIDATES, scores.shape[1]))
        region = best.indices // self.num_classes
        per_class = deltas.float()[:, 4:].unflatten(0, shape).flatten(1).unflatten(1, (-1, 4))
        weights = model.roi_heads.box_coder.weights
        stds = (1 / weights[0], 1 / weights[1], 1 / weights[2], 1 / weights[3])
        own = rows_of(per_class, best.indices)
        moved = deltas_to_boxes(rows_of(boxes, region), own, stds=stds)
        labels = best.indices - region * self.num_classes
        return clip_each(moved, sizes), best.values, labels

    def mask_heads(self, model: Any) -> list[Any]:
        """Return the mask head, if there is one."""
        heads = model.roi_heads
        return [MaskHead(heads, heads.mask_roi_pool.output_size[0])] if heads.has_mask() else []

    def masks(
        self, model: Any, maps: Maps, found: tuple[Tensor, ...], size: Size
    ) -> tuple[Tensor, ...]:
        """Return (N, M, H, W) masks of (N, K) detections, or nothing; see `Detector.detect`."""
        heads = self.mask_heads(model)
        if not heads:
            return ()
        boxes, scores, labels = found
        levels = tuple(maps.values())
        return (masks_fixed(self.pool, heads, levels, boxes, scores, labels, size),)

    def pool(self, maps: tuple[Tensor, ...], boxes: Boxes, cells: int) -> Tensor:
        """Return (R, C, cells, cells) of all images' boxes, as torchvision pools them.

        Args:
            maps: (N, C, H, W) per level, of which the first ones are used.
            boxes: per image (R_i, 4) in pixels, or (N, R, 4).
            cells: per side.
        """
        regions = with_images(boxes)
        levels = list(zip(maps, self.strides, strict=False))
        if regions.is_meta:  # whose levels are not known: only shapes and channels matter
            parts = [roi_align(m, regions, cells, 1 / s, self.sampling_ratio) for m, s in levels]
            return torch.cat(parts)[: len(regions)]
        first, last = self.strides[0], self.strides[-1]
        count = round(math.log2(last / first)) + 1
        level = region_levels(regions[:, 1:], count, _CELLS * first)
        parts = [
            roi_align(m, regions[level == i], cells, 1 / stride, self.sampling_ratio)
            for i, (m, stride) in enumerate(levels)
        ]
        return merge_levels(parts, level)

    def _box_outputs(
        self, model: Any, maps: tuple[Tensor, ...], boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return (R, C + 1) logits, background first, and (R, 4 * (C + 1)) deltas."""
        heads = model.roi_heads
        regions = self.pool(maps, boxes, heads.box_roi_pool.output_size[0])
        logits, deltas = heads.box_predictor(heads.box_head(regions))
        return logits, deltas

    def _propose(self, model: Any, maps: Maps, size: Size, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N, R, 4) boxes in pixels and (N, R) scores, 0 in empty slots."""
        rpn = model.rpn
        logits, deltas = rpn.head(list(maps.values()))
        limit = rpn._post_nms_top_n["testing"]
        if logits[0].is_meta:
            shape = (len(logits[0]), limit)
            return logits[0].new_empty((*shape, 4)), logits[0].new_empty(shape)
        cells = [(x.shape[-2], x.shape[-1]) for x in logits]
        return propose_fixed(
            tuple(logits),
            tuple(deltas),
            [base.float() for base in rpn.anchor_generator.cell_anchors],
            [(size[0] // height, size[1] // width) for height, width in cells],
            (0.0, 0.0, 0.0, 0.0),
            (1.0, 1.0, 1.0, 1.0),
            sizes,
            rpn._pre_nms_top_n["testing"],
            rpn.nms_thresh,
            limit,
            rpn.min_size,
        )

    def _object(self, model: Any, target: Target) -> dict[str, Tensor]:
        """Return a target as torchvision takes it: background is class 0."""
        own = {"boxes": target.boxes, "labels": target.labels + 1}
        return {**own, "masks": masks_of(target)} if model.roi_heads.has_mask() else own


def _whole(maps: Maps, size: Size) -> Tensor:
    first = next(iter(maps.values()))
    return torch.tensor(size, device=first.device).expand(len(first), 2)


def _strides(backbone: nn.Module, names: Sequence[str]) -> tuple[int, ...]:
    """Return image pixels per cell of those of the maps that are named."""
    shadow = copy.deepcopy(backbone).to("meta").eval()
    maps = shadow(torch.empty(1, 3, _SIDE, _SIDE, device="meta"))
    used = (level for name, level in maps.items() if name in names)
    return tuple(2 ** round(math.log2(_SIDE / level.shape[-1])) for level in used)


def _outputs_of(layer: nn.Module) -> int:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return len(weight)


@contextmanager
def _learning(*modules: nn.Module) -> Iterator[None]:
    """Let modules compute losses within the block; what is in them stays in its mode."""
    before = [module.training for module in modules]
    try:
        for module in modules:
            module.training = True
        yield
    finally:
        for module, mode in zip(modules, before, strict=True):
            module.training = mode
