"""Masks of regions: what they learn, and how they come into the original images."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from razorlite.core.errors import DataError
from razorlite.models.heads.dense import Maps
from razorlite.models.heads.region_heads import FCNMaskHead
from razorlite.models.heads.region_samples import Samples
from razorlite.ops.fixed_shapes import filled_slots
from razorlite.ops.regions import Boxes, crop_masks, paste_masks, stretch_masks
from razorlite.structures import Detections, Frame, Target

Pool = Callable[[Maps, Boxes, int], Tensor]  # maps, boxes and cells per side to regions


def mask_loss(
    pool: Pool,
    head: FCNMaskHead,
    maps: Maps,
    samples: Sequence[Samples],
    targets: list[Target],
) -> dict[str, Tensor]:
    """Return `loss_mask` of the sampled objects."""
    boxes = [s.boxes[: len(s.objects)] for s in samples]
    labels = torch.cat([s.labels[: len(s.objects)] for s in samples])
    logits = head(pool(maps, boxes, head.roi_feat_size))
    goals = [
        crop_masks(masks_of(t), s.objects, b, logits.shape[-1])
        for t, s, b in zip(targets, samples, boxes, strict=True)
    ]
    return head.loss(logits, labels, torch.cat(goals))


def masks_of(target: Target) -> Tensor:
    """Return the (N, H, W) masks of a target; DataError if it has none."""
    if target.masks is None:
        raise DataError(
            f"image {target.image_id} has no masks to learn from; load them with the data set, "
            "or leave mask_head out"
        )
    return target.masks


def to_original(
    pool: Pool,
    heads: Sequence[FCNMaskHead],
    maps: Maps,
    found: list[Detections],
    frames: Sequence[Frame],
) -> list[Detections]:
    """Return detections of the batch in the original images, with masks if there are heads.

    Several heads' masks are averaged.
    """
    scaled = [
        replace(d, boxes=frame.to_original(d.boxes)) for d, frame in zip(found, frames, strict=True)
    ]
    if not heads:
        return scaled
    chances = _chances(pool, heads, maps, [d.boxes for d in found])
    result = []
    parts = chances.split([len(d) for d in found])
    for d, part, frame in zip(scaled, parts, frames, strict=True):
        own = part[torch.arange(len(d), device=part.device), d.labels]
        masks = paste_masks(own, d.boxes, frame.original, heads[0].mask_thr)
        result.append(replace(d, masks=masks))
    return result


def masks_fixed(
    pool: Pool,
    heads: Sequence[FCNMaskHead],
    maps: Maps,
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    size: tuple[int, int],
) -> Tensor:
    """Return the masks of detections in tensors of fixed shapes, see `RoIHead.masks`."""
    slots = filled_slots(scores)
    boxes, labels = boxes[:, slots], labels[:, slots]
    chances = _chances(pool, heads, maps, boxes)
    index = labels.flatten()[:, None, None, None].expand(-1, 1, *chances.shape[2:])
    drawn = stretch_masks(chances.gather(1, index)[:, 0], boxes.flatten(0, 1), size)
    found: Tensor = (drawn >= heads[0].mask_thr).unflatten(0, labels.shape)
    return found & (scores[:, slots] > 0)[..., None, None]


def _chances(pool: Pool, heads: Sequence[FCNMaskHead], maps: Maps, boxes: Boxes) -> Tensor:
    """Return (R, C, S, S) probabilities of all images' boxes, the mean over the heads."""
    regions = pool(maps, boxes, heads[0].roi_feat_size)
    return torch.stack([head(regions).float().sigmoid() for head in heads]).mean(0)
