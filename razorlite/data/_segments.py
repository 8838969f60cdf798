"""Polygons and run lengths as COCO writes them: checked when read, decoded when wanted.

What pycocotools gets has passed here. It trusts its input: it reads beyond the end of run
lengths that stop early, and walks along the edges of a polygon however far away they lead.
"""

import math
from operator import mul
from typing import Any

import numpy as np
import torch
from torch import Tensor

from razorlite.data._values import finite, number, shown

Part = list[float] | dict[str, Any]  # a polygon x, y, x, y, … or COCO's run lengths
WITHOUT = "object without a mask"
_NUMBERS = {int, float}
_LONGEST = 1_000_000  # pixels around a polygon; pycocotools takes about 100 bytes for each
_DEEPEST = 4  # lists inside each other


class SegmentError(Exception):
    """What is wrong with an object's mask.

    Attributes:
        kind: the sort of fault.
        detail: what is there, in one line.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


def read_segment(value: Any, size: tuple[int, int]) -> list[Part]:
    """Return the parts of an object's mask, all of them fit for `decode_segments`.

    Polygons may be lists of numbers or of pairs, by themselves or inside further lists; run lengths
    may be compressed or not, by themselves or in a list. Points and lines, which have no area, are
    left out beside other parts.

    Args:
        value: as the file has it.
        size: (height, width) of the image.

    Raises:
        SegmentError: it describes no part of such an image.
    """
    entries = _entries(value, _DEEPEST)
    if not entries:
        raise SegmentError(WITHOUT, shown(value))
    with_area = [entry for entry in entries if isinstance(entry, dict) or len(entry) not in (2, 4)]
    return [_part(entry, size) for entry in with_area or entries]


def decode_segments(objects: list[list[Part]], size: tuple[int, int]) -> Tensor:
    """Return (N, height, width) bool masks of the parts that `read_segment` returned."""
    from pycocotools import mask as coco_mask

    masks = np.zeros((len(objects), *size), dtype=bool)
    for mask, parts in zip(masks, objects, strict=True):
        mask[:] = coco_mask.decode(_merged(parts, size)).astype(bool)
    return torch.from_numpy(masks)


def as_coco(parts: list[Part], size: tuple[int, int]) -> Any:
    """Return parts as COCO json has a mask: polygons, or run lengths of all of them together."""
    if all(isinstance(part, list) for part in parts):
        return parts
    if len(parts) == 1:
        return parts[0]
    return {"size": list(size), "counts": _merged(parts, size)["counts"].decode("ascii")}


def box_around(parts: list[Part], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return x1, y1, x2, y2 around the parts, in pixels."""
    from pycocotools import mask as coco_mask

    if all(isinstance(part, list) for part in parts):
        xs = [x for part in parts for x in part[0::2]]  # type: ignore[index]
        ys = [y for part in parts for y in part[1::2]]  # type: ignore[index]
        return min(xs), min(ys), max(xs), max(ys)
    x, y, width, height = coco_mask.toBbox(_merged(parts, size)).tolist()
    return x, y, x + width, y + height


def _part(entry: Any, size: tuple[int, int]) -> Part:
    if isinstance(entry, dict):
        return _run_lengths(entry, size)
    _check_polygon(entry, size)
    polygon: list[float] = entry
    return polygon


def _merged(parts: list[Part], size: tuple[int, int]) -> dict[str, Any]:
    """Return COCO's compressed run lengths of all parts together."""
    from pycocotools import mask as coco_mask

    polygons = [part for part in parts if isinstance(part, list)]
    coded = coco_mask.frPyObjects(polygons, *size) if polygons else []
    for part in parts:
        if isinstance(part, dict):
            loose = isinstance(part["counts"], list)
            coded.append(coco_mask.frPyObjects(part, *size) if loose else part)
    result: dict[str, Any] = coded[0] if len(coded) == 1 else coco_mask.merge(coded)
    return result


def _entries(value: Any, depth: int) -> list[Any]:
    """Return the run lengths and flat polygons in nested lists."""
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list) or depth == 0:
        raise SegmentError("malformed mask", shown(value))
    if not value:
        return []
    if not isinstance(value[0], list | dict):
        return [_flat(value)]
    if len(value) > 2 and all(_is_pair(point) for point in value):
        return [_flat([coordinate for point in value for coordinate in point])]
    return [entry for inner in value for entry in _entries(inner, depth - 1)]


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and not isinstance(value[0], list | dict)


def _flat(values: list[Any]) -> list[float]:
    if set(map(type, values)) <= _NUMBERS:
        return values
    numbers = [number(value) for value in values]
    for value, known in zip(values, numbers, strict=True):
        if known is None:
            raise SegmentError("malformed mask", f"{shown(value)} in the place of a coordinate")
    return numbers  # type: ignore[return-value]


def _check_polygon(polygon: list[float], size: tuple[int, int]) -> None:
    if len(polygon) < 6 or len(polygon) % 2:
        raise SegmentError(
            "polygon that is not three or more points", f"{len(polygon)} numbers {shown(polygon)}"
        )
    if not math.isfinite(_total(polygon)):
        raise SegmentError("polygon of NaN or infinity", shown(polygon))
    xs, ys = polygon[0::2], polygon[1::2]
    left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    height, width = size
    reach = max(height, width, 100)
    if min(left, top) < -reach or right > width + reach or bottom > height + reach:
        raise SegmentError(
            "polygon far outside the image", f"from {left:g} {top:g} to {right:g} {bottom:g}"
        )
    most = max(right - left, bottom - top) * len(xs)
    if most > _LONGEST and _length(polygon) > _LONGEST:
        raise SegmentError("polygon that is too long", f"{len(xs)} points")
    # A figure of eight has as much area to its left as to its right, so the pixels are counted.
    if abs(_twice_area(xs, ys)) < 1e-6 and not decode_segments([[polygon]], size).any():
        raise SegmentError("polygon without area", f"{len(xs)} points {shown(polygon)}")


def _twice_area(xs: list[float], ys: list[float]) -> float:
    area: float = sum(map(mul, xs, ys[1:] + ys[:1])) - sum(map(mul, ys, xs[1:] + xs[:1]))
    return area


def _total(polygon: list[float]) -> float:
    try:
        return sum(polygon)
    except OverflowError:  # a whole number beyond all floats
        return math.inf


def _length(polygon: list[float]) -> float:
    points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())


def _run_lengths(value: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    stated, counts = value.get("size"), value.get("counts")
    sides = [finite(side) for side in stated] if isinstance(stated, list) else []
    if sides != list(size):
        raise SegmentError(
            "mask of another size", f"run lengths of {shown(stated)} in an image of {list(size)}"
        )
    runs = _decompressed(counts) if isinstance(counts, str) else _whole(counts)
    if (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise SegmentError(
            "run lengths that do not fill the image",
            f"{'some below 0' if (runs < 0).any() else f'sum {runs.sum()}'}, expected the sum "
            f"{size[0] * size[1]}",
        )
    if not runs[1::2].any():
        raise SegmentError("mask without a pixel", shown(counts))
    return {"size": list(size), "counts": counts if isinstance(counts, str) else runs.tolist()}


def _whole(counts: Any) -> np.ndarray:
    numbers = isinstance(counts, list) and set(map(type, counts)) <= _NUMBERS
    if not numbers or not all(count == count // 1 and abs(count) < 2**40 for count in counts):
        raise SegmentError("malformed run lengths", shown(counts))
    return np.array(counts, dtype=np.float64).astype(np.int64)


def _decompressed(text: str) -> np.ndarray:
    """Return the counts in COCO's compressed text, which pycocotools reads without a look.

    Each count is a number of 5 bits a character, the lowest first; a further bit says that more
    follow, and from the fourth on they are differences to the count before the last.
    """
    if not text.isascii():
        raise SegmentError("malformed run lengths", shown(text))
    codes = np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise SegmentError("malformed run lengths", shown(text))
    ends = np.nonzero((codes & 32) == 0)[0]
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 5:  # 30 bits are more than any image has pixels
        raise SegmentError("malformed run lengths", shown(text))
    places = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    numbers = np.add.reduceat((codes & 31) << (5 * places), starts)
    numbers -= ((codes[ends] & 16) > 0) * (np.int64(32) << (5 * (ends - starts)))
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
