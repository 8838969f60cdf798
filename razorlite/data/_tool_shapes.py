"""Shapes of annotation tools as numbers: corners, boxes, masks, run lengths."""

from typing import Any
from xml.etree import ElementTree

import numpy as np


def box_of_points(points: np.ndarray) -> list[float]:
    """Return x, y, width and height of the box around (N, 2) points."""
    low, high = points.min(axis=0), points.max(axis=0)
    return [*low.tolist(), *(high - low).tolist()]


def turned_corners(corners: np.ndarray, degrees: float) -> np.ndarray:
    """Return corners turned clockwise around their centre, as CVAT turns boxes."""
    angle, centre = np.deg2rad(degrees), corners.mean(axis=0)
    cosine, sine = np.cos(angle), np.sin(angle)
    moved: np.ndarray = (corners - centre) @ np.array([[cosine, sine], [-sine, cosine]]) + centre
    return moved


def cvat_mask(shape: ElementTree.Element, size: tuple[int, int]) -> np.ndarray:
    """Return (height, width) bool from run lengths, row by row, that begin with background."""
    left, top, width, height = (int(shape.attrib[n]) for n in ("left", "top", "width", "height"))
    runs = [int(run) for run in shape.attrib["rle"].split(",")]
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    mask = np.zeros(size, dtype=bool)
    mask[top : top + height, left : left + width] = inside
    return mask


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Return COCO's uncompressed run lengths of (H, W) bool: columns, beginning with 0."""
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}
