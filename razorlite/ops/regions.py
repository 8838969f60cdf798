"""Maps of boxes: pooled from a pyramid, and masks pasted back."""

import torch
from torch import Tensor
from torchvision.ops import roi_align

from razorlite.core.compute import unrounded
from razorlite.ops.sparse_align import sparse_roi_align

Boxes = list[Tensor] | Tensor
_LARGEST_PASTE = 2**24  # pixels of all masks held at a time as float


def pool_regions(
    maps: tuple[Tensor, ...],
    boxes: Boxes,
    strides: tuple[int, ...],
    output_size: int,
    finest_scale: float = 56.0,
) -> Tensor:
    """Return (R, C, output_size, output_size) features of all boxes, image by image.

    Args:
        maps: (N, C, H, W) per level.
        boxes: per image (R_i, 4) in pixels, or (N, R, 4).
        strides: image pixels per cell of each level.
        output_size: cells per side.
        finest_scale: boxes of this side and smaller than twice it come from the finest level;
            each doubling goes a level up.

    FPN, https://arxiv.org/abs/1612.03144, eq. 1; RoIAlign, https://arxiv.org/abs/1703.06870.
    """
    joined = torch.cat(boxes) if isinstance(boxes, list) else boxes.flatten(0, 1)
    if joined.is_meta:
        return maps[0].new_empty((len(joined), maps[0].shape[1], output_size, output_size))
    level = region_levels(joined, len(strides), finest_scale)
    if _sparse_is_faster(joined):
        image = _images_of(boxes, joined.device)
        return sparse_roi_align(maps, joined, image, level, strides, output_size)
    regions = with_images(boxes)
    parts = [
        roi_align(m, regions[level == i], output_size, 1 / stride, 0, aligned=True)
        for i, (m, stride) in enumerate(zip(maps, strides, strict=True))
    ]
    return merge_levels(parts, level)


def with_images(boxes: Boxes) -> Tensor:
    """Return (R, 5) of all images' boxes: the number of the image, then the box.

    Args:
        boxes: per image (R_i, 4), or (N, R, 4).
    """
    joined = torch.cat(boxes) if isinstance(boxes, list) else boxes.flatten(0, 1)
    return torch.cat((_images_of(boxes, joined.device)[:, None].to(joined), joined), 1)


def merge_levels(parts: list[Tensor], level: Tensor) -> Tensor:
    """Return (R, ...) of what each level gave for its regions, in the order of the regions.

    Args:
        parts: (R_i, ...) per level, in the order of the regions.
        level: (R,) int64, the level of each region.
    """
    return torch.cat(parts).index_select(0, _sorted_positions(level, len(parts)))


def _sorted_positions(level: Tensor, levels: int) -> Tensor:
    """Return the (R,) positions that regions have when they are sorted by level, stably.

    Not by sorting, which ONNX does not do stably.
    """
    ones = (level[:, None] == torch.arange(levels, device=level.device)).long()
    counts = ones.sum(0)
    before = ones.cumsum(0) - ones + counts.cumsum(0) - counts
    return before.gather(1, level[:, None])[:, 0]


def _images_of(boxes: Boxes, device: torch.device) -> Tensor:
    """Return the (R,) int64 image of each box."""
    if isinstance(boxes, Tensor):  # whose length a graph computes
        images = torch.arange(boxes.shape[0], device=device)
        return images[:, None].expand(boxes.shape[:2]).flatten()
    images = torch.arange(len(boxes), device=device)
    return images.repeat_interleave(torch.tensor([len(b) for b in boxes], device=device))


def _sparse_is_faster(boxes: Tensor) -> bool:
    """Return whether this is eager work on a CPU; graphs for other runtimes keep the usual call."""
    followed = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
    return boxes.device.type == "cpu" and not followed


def first_regions(boxes: Boxes, count: int) -> Boxes:
    """Return at most `count` boxes of each image: proposals come best first.

    Args:
        boxes: per image (R_i, 4) in pixels, or (N, R, 4).
        count: how many.
    """
    return boxes[:, :count] if isinstance(boxes, Tensor) else [b[:count] for b in boxes]


def region_levels(boxes: Tensor, levels: int, finest_scale: float = 56.0) -> Tensor:
    """Return the (R,) int64 pyramid level that (R, 4) boxes are pooled from."""
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    return (side / finest_scale + 1e-6).log2().floor().clamp(0, levels - 1).long()


def crop_masks(masks: Tensor, index: Tensor, boxes: Tensor, output_size: int) -> Tensor:
    """Return (R, S, S) float, 0 or 1: masks inside boxes, resized by averaging.

    Args:
        masks: (N, H, W) bool.
        index: (R,) int64, the mask of each box.
        boxes: (R, 4) pixels.
        output_size: S.
    """
    regions = torch.cat((index[:, None].to(boxes), boxes), 1)
    cropped = roi_align(masks[:, None].to(boxes), regions, output_size, 1.0, 0, aligned=True)
    pasted: Tensor = (cropped[:, 0] >= 0.5).to(boxes)
    return pasted


@unrounded
def centres_of_mass(masks: Tensor) -> Tensor:
    """Return (N, 2) mean columns and rows, counted from 0, of (N, H, W) bool masks.

    An empty mask has its centre at 0.
    """
    across, down = masks.sum(1).float(), masks.sum(2).float()
    total = across.sum(1).clamp(min=1)
    x = across @ torch.arange(masks.shape[2], device=masks.device).float() / total
    y = down @ torch.arange(masks.shape[1], device=masks.device).float() / total
    return torch.stack((x, y), 1)


@unrounded
def paste_masks(
    masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5
) -> Tensor:
    """Return (N, H, W) bool: masks stretched over their boxes, where they reach the threshold.

    Stretching is bilinear and zero outside, as `grid_sample` does it; rows and columns are
    stretched one after the other, which costs a small part of it.

    Args:
        masks: (N, S, S) float.
        boxes: (N, 4) pixels.
        size: (H, W) of the image.
        threshold: value from which on a pixel belongs to the object.
    """
    height, width = size
    count = max(1, _LARGEST_PASTE // (height * width))
    pasted = [
        stretch_masks(m, b, size) >= threshold
        for m, b in zip(masks.float().split(count), boxes.float().split(count), strict=True)
    ]
    return torch.cat(pasted) if pasted else masks.new_zeros((0, *size), dtype=torch.bool)


def stretch_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (N, H, W) float: masks stretched over their boxes, see `paste_masks`."""
    height, width = size
    down = _stretch(boxes[:, 1], boxes[:, 3], height, masks)
    return down @ masks @ _stretch(boxes[:, 0], boxes[:, 2], width, masks).mT


def _stretch(start: Tensor, end: Tensor, pixels: int, masks: Tensor) -> Tensor:
    """Return (N, pixels, S) weights with which S cells from start to end make up each pixel."""
    cells = masks.shape[-1]
    centres = torch.arange(pixels, device=start.device) + 0.5
    along = (centres - start[:, None]) / (end - start).clamp(min=1e-6)[:, None] * cells - 0.5
    return (1 - (along[..., None] - torch.arange(cells, device=start.device)).abs()).clamp_(min=0)
