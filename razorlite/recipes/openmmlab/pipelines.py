"""Data pipelines: lists of transforms, of which loading and packing go without saying.

MMDetection 2.x writes the sizes of windows and of padding as (height, width), 3.x as (width,
height); both write those of resizing as (width, height).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from razorlite.recipes.openmmlab.blocks import Block, Tree, without

_SILENT = {"LoadImageFromFile", "DefaultFormatBundle", "Collect", "PackDetInputs", "ImageToTensor"}
_MOST_SIZES = 40  # that a range of sizes is written as
_GREY = 114


@dataclass
class Pipeline:
    """What a pipeline comes to.

    Attributes:
        transforms: our blocks.
        normalise: `mean`, `std` and whether to turn blue, green, red into red, green, blue.
        pad_multiple: to which batches are padded, in pixels.
        masks: whether masks are loaded.
    """

    transforms: list[Tree] = field(default_factory=list)
    normalise: Tree | None = None
    pad_multiple: int | None = None
    masks: bool = False


def pipeline(blocks: Sequence[Block], *, height_first: bool) -> Pipeline:
    """Convert a list of transforms, naming those that have no counterpart.

    Args:
        blocks: the transforms.
        height_first: windows and padding are (height, width), as in 2.x.
    """
    result = Pipeline()
    waiting = list(blocks)
    while waiting:
        block = waiting.pop(0)
        follower = waiting[0] if waiting else None
        if follower is not None and _is_jitter(block, follower):
            result.transforms.append(_scale_jitter(block, waiting.pop(0), height_first))
        else:
            _add(result, block, height_first)
    return result


def _add(result: Pipeline, block: Block, height_first: bool) -> None:
    kind = block.type
    if kind in _SILENT:
        return
    if kind == "LoadAnnotations":
        result.masks = bool(block.take("with_mask", False))
        block.expect("with_seg", False)
        block.ignore("with_bbox", "poly2mask", "with_label", "file_client_args", "backend_args")
    elif kind == "Normalize":
        result.normalise = {name: block.take(name) for name in ("mean", "std")}
        result.normalise["to_rgb"] = block.take("to_rgb", True)
    elif kind == "Pad" and "size_divisor" in block:
        result.pad_multiple = block.take("size_divisor")
        block.ignore("pad_val")
    elif kind == "MultiScaleFlipAug":
        _add_test(result, block, height_first)
    elif kind in _TRANSFORMS or kind in _ORDERED:
        convert = _TRANSFORMS.get(kind) or partial(_ORDERED[kind], height_first=height_first)
        result.transforms += [tree for tree in [convert(block)] if tree]
    else:
        block.remarks.add(block.node.source, block.path, f"{kind} has no counterpart; left out")
        return
    block.finish()


def _add_test(result: Pipeline, block: Block, height_first: bool) -> None:
    """Add what MMDetection 2.x does with images of tests; `Resize` gets the size from around it."""
    scale = block.take("img_scale")
    block.expect("flip", False)
    block.ignore("flip_direction", "scale_factor")
    for inner in block.blocks("transforms"):
        if inner.type == "Resize":
            result.transforms.append(resized(scale, inner.take("keep_ratio", True)))
        elif inner.type != "RandomFlip":
            _add(result, inner, height_first)


def _is_jitter(block: Block, follower: Block) -> bool:
    """Return whether two transforms make what large-scale jitter is: any size, then a window."""
    if block.type not in ("RandomResize", "Resize") or "ratio_range" not in block:
        return False
    keeps_ratio: bool = block.take("keep_ratio", block.type == "Resize")
    return keeps_ratio and follower.type == "RandomCrop" and "crop_type" not in follower


def _scale_jitter(resize: Block, crop: Block, height_first: bool) -> Tree:
    size = _size(crop.take("crop_size"), height_first=height_first)
    fit = _size(resize.take("scale", resize.take("img_scale")))
    if fit[0] != fit[1]:
        text = f"images in portrait are made to fit {fit[1]} x {fit[0]} as well, not turned by 90"
        resize.remarks.add(resize.node.source, resize.path, text)
    for name in ("resize_type", "multiscale_mode"):
        resize.ignore(name)
    tree = {"type": "ScaleJitter", "size": size, "fit": None if fit == size else fit}
    tree["scale"] = resize.take("ratio_range")
    tree["allow_empty"] = crop.take("allow_negative_crop", False)
    crop.ignore("recompute_bbox", "bbox_clip_border")
    for block in (resize, crop):
        block.finish()
    return without(tree)


def resized(scale: Any, keep_ratio: bool) -> Tree:
    """Return a resizing to a pair of numbers, of which the larger bounds the longer side."""
    if not keep_ratio:
        return {"type": "Resize", "size": _size(scale), "keep_ratio": False}
    short, long = min(scale), max(scale)
    if short == long:
        return {"type": "Resize", "size": [short, short]}
    return {"type": "Resize", "short": short, "long": long}


def _resize(block: Block) -> Tree | None:
    scale = block.take("scale", block.take("img_scale"))
    keep = block.take("keep_ratio", "img_scale" in block)
    mode = block.take("multiscale_mode", "range")
    block.ignore("override", "backend", "clip_object_border", "bbox_clip_border")
    if not isinstance(scale, list):
        block.lose("scale", f"a size of {scale} has no counterpart")
        return None
    if isinstance(scale[0], list) and len(scale) > 1:
        return _drawn(block, scale, between=mode == "range") if keep else _unequal(block)
    return resized(scale[0] if isinstance(scale[0], list) else scale, keep)


def _choice(block: Block) -> Tree | None:
    scales = block.take("scales")
    arguments = block.block("resize_cfg") if "resize_cfg" in block else block
    arguments.ignore("type")
    keep = arguments.take("keep_ratio", False)
    block.ignore("resize_type")
    return _drawn(block, scales, between=False) if keep else _unequal(block)


def _random_resize(block: Block) -> Tree | None:
    """Return a resizing between two sizes."""
    scale = block.take("scale")
    block.ignore("resize_type")
    keep = block.take("keep_ratio", False)
    if not keep:
        block.ignore("ratio_range")
        return _unequal(block)
    if isinstance(scale, list) and isinstance(scale[0], list):
        return _drawn(block, scale, between=True)
    block.lose("ratio_range", "random factors without a window behind them have no counterpart")
    return None


def _drawn(block: Block, scales: list[list[int]], *, between: bool) -> Tree | None:
    """Return a resizing to one of several sizes, or to any between two, of one longer side."""
    longs, shorts = {max(scale) for scale in scales}, [min(scale) for scale in scales]
    if len(longs) > 1:
        return _unequal(block)
    if between:
        step = max(1, -(-(max(shorts) - min(shorts)) // _MOST_SIZES))
        if step > 1:
            text = f"each {step}th of the sizes from {min(shorts)} to {max(shorts)} is drawn"
            block.remarks.add(block.node.source, block.path, text)
        shorts = list(range(min(shorts), max(shorts) + 1, step))
    return {"type": "Resize", "short": sorted(set(shorts)), "long": longs.pop()}


def _unequal(block: Block) -> Tree | None:
    text = "sizes of several longer sides, or without their ratio, have no counterpart; left out"
    block.remarks.add(block.node.source, block.path, text)
    return None


def _flip(block: Block) -> Tree | None:
    chance = block.take("prob", block.take("flip_ratio", 0.0))
    direction = block.take("direction", "horizontal")
    if direction not in ("horizontal", "vertical") or isinstance(chance, list):
        block.lose("direction", f"{direction} with {chance} has no counterpart")
        return None
    if not chance:
        return None
    tree = {"type": "RandomFlip", "horizontal": chance}
    return tree if direction == "horizontal" else {**tree, "horizontal": 0.0, "vertical": chance}


def _pad(block: Block, *, height_first: bool) -> Tree | None:
    value = block.take("pad_val", 0)
    value = value.get("img", 0) if isinstance(value, dict) else value
    grey = int(value[0] if isinstance(value, list) else value)
    block.expect("pad_to_square", False)
    if "size" not in block:
        return None
    size = _size(block.take("size"), height_first=height_first)
    return without({"type": "Pad", "size": size, "value": grey}, value=0)


def _crop(block: Block, *, height_first: bool) -> Tree | None:
    kind, size = block.take("crop_type", "absolute"), block.take("crop_size")
    allow = block.take("allow_negative_crop", False)
    block.ignore("recompute_bbox", "bbox_clip_border")
    if kind == "absolute":
        window = _size(size, height_first=height_first)
        return {"type": "RandomCrop", "size": window, "min_visible": 0.0, "allow_empty": allow}
    if kind == "absolute_range":
        return {"type": "RandomSizeCrop", "least": size[0], "greatest": size[1]}
    block.lose("crop_type", f"{kind} has no counterpart")
    return None


def _alternatives(block: Block, *, height_first: bool) -> Tree | None:
    key = "transforms" if "transforms" in block else "policies"
    found = [pipeline(one, height_first=height_first) for one in block.lists(key)]
    choices = [one.transforms for one in found]
    tree = {"type": "RandomChoice", "choices": choices, "weights": block.take("prob")}
    return without(tree) if choices else None


def _mosaic(block: Block) -> Tree:
    tree = {"type": "CachedMosaic", "size": _size(block.take("img_scale", [640, 640]))}
    tree["centre"] = block.take("center_ratio_range")
    tree |= _cached(block, 40)
    return without(tree, cache_size=40, random_pop=True, prob=1.0, fill=_GREY)


def _mixup(block: Block) -> Tree:
    tree = {"type": "CachedMixUp", "size": _size(block.take("img_scale", [640, 640]))}
    tree["scale"] = block.take("ratio_range", [0.5, 1.5])
    tree["flip"] = block.take("flip_ratio", 0.5)
    tree |= _cached(block, 20)
    block.ignore("max_iters", "bbox_clip_border")
    usual = {"scale": [1.0, 1.0], "flip": 0.5, "cache_size": 20, "random_pop": True, "prob": 1.0}
    return without(tree, **usual, fill=_GREY)


def _cached(block: Block, size: int) -> Tree:
    fill = block.take("pad_val", _GREY)
    block.ignore("bbox_clip_border")
    return {
        "cache_size": block.take("max_cached_images", size),
        "random_pop": block.take("random_pop", True),
        "prob": block.take("prob", 1.0),
        "fill": int(fill[0] if isinstance(fill, list) else fill),
    }


def _hsv(block: Block) -> Tree:
    names = {"hue": 5, "saturation": 30, "value": 30}
    tree: Tree = {name: float(block.take(f"{name}_delta", value)) for name, value in names.items()}
    tree["hue"] *= 2  # theirs counts half degrees, as OpenCV does
    return {"type": "HSVJitter", **without(tree, hue=10.0, saturation=30.0, value=30.0)}


def _iou_crop(block: Block) -> Tree:
    least = block.take("min_ious", [0.1, 0.3, 0.5, 0.7, 0.9])
    tree = {"type": "RandomIoUCrop", "thresholds": [1.0, *least, 0.0]}
    block.ignore("bbox_clip_border")
    return {**tree, "min_scale": block.take("min_crop_size", 0.3)}


def _colours(block: Block) -> Tree:
    text = "PhotoMetricDistortion: torchvision's is taken, whose brightness is a factor"
    block.remarks.add(block.node.source, block.path, text)
    return {"type": "TorchvisionTransform", "name": "RandomPhotometricDistort"}


def _size(pair: Any, *, height_first: bool = False) -> list[int]:
    """Return height and width of one number, or of a pair in either order."""
    if not isinstance(pair, list):
        return [int(pair)] * 2
    first, second = int(pair[0]), int(pair[1])
    return [first, second] if height_first else [second, first]


_TRANSFORMS: dict[str, Callable[[Block], Tree | None]] = {
    "Resize": _resize,
    "RandomChoiceResize": _choice,
    "RandomResize": _random_resize,
    "RandomFlip": _flip,
    "CachedMosaic": _mosaic,
    "CachedMixUp": _mixup,
    "YOLOXHSVRandomAug": _hsv,
    "MinIoURandomCrop": _iou_crop,
    "PhotoMetricDistortion": _colours,
}
_ORDERED: dict[str, Callable[..., Tree | None]] = {  # by `height_first`
    "Pad": _pad,
    "RandomCrop": _crop,
    "RandomChoice": _alternatives,
    "AutoAugment": _alternatives,
}
