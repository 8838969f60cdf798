"""Targets and detections as pycocotools wants them: dicts of plain values, boxes or run lengths."""

import hashlib
from dataclasses import fields
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from razorlite.core.errors import DataError, EvaluationError
from razorlite.structures import Detections, Target

Kind = Literal["bbox", "segm"]
Entry = dict[str, Any]


def truth_entries(target: Target, kind: Kind) -> list[Entry]:
    """Return an image's objects.

    Raises:
        DataError: masks are wanted and there are none.
    """
    if kind == "segm" and target.masks is None:
        raise DataError(
            "CocoMetric evaluates masks, and the data have none; give the data set masks: true, or "
            "the metric kind: bbox"
        )
    crowd = target.crowd if target.crowd is not None else torch.zeros(len(target)).bool()
    entries = _entries(target.boxes, target.labels, target.masks, kind)
    if target.area is not None:
        for entry, area in zip(entries, target.area.tolist(), strict=True):
            entry["area"] = area
    for entry, is_crowd in zip(entries, crowd.tolist(), strict=True):
        entry["iscrowd"] = entry["ignore"] = int(is_crowd)
    return entries


def found_entries(found: Detections, kind: Kind) -> list[Entry]:
    """Return an image's detections.

    Raises:
        EvaluationError: masks are wanted and there are none.
    """
    if kind == "segm" and found.masks is None:
        raise EvaluationError(
            "CocoMetric evaluates masks, and the model predicts only boxes; set kind: bbox"
        )
    masks = found.masks if kind == "segm" else None  # boxes are sized by their own area
    entries = _entries(found.boxes, found.labels, masks, kind)
    for entry, score in zip(entries, found.scores.tolist(), strict=True):
        entry["score"] = score
    return entries


def detection_entries(found: Detections) -> list[Entry]:
    """Return an image's detections as a COCO json of results holds them, masks if there are any.

    Entries have `category_id`, from 1, `bbox` as x, y, width, height, `area`, `iscrowd` 0, `score`
    and, of masks, `segmentation` as run lengths.
    """
    entries = found_entries(found, "bbox" if found.masks is None else "segm")
    for entry in entries:
        entry |= {"category_id": entry.pop("label") + 1, "iscrowd": 0}
        if "segmentation" in entry:
            counts = entry["segmentation"]["counts"].decode("ascii")
            entry["segmentation"] = {**entry["segmentation"], "counts": counts}
    return entries


def fingerprint(target: Target, masks: bool) -> bytes:
    """Return what differs where targets, and if wanted their masks, differ."""
    digest, unused = (
        hashlib.blake2b(),
        ("original_masks",) if masks else ("original_masks", "masks"),
    )
    for name in (field.name for field in fields(target) if field.name not in unused):
        value = getattr(target, name)
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.contiguous().numpy().data)
        else:
            digest.update(f"{name} {value!r}".encode())
    return digest.digest()


def _entries(boxes: Tensor, labels: Tensor, masks: Tensor | None, kind: Kind) -> list[Entry]:
    # Of an inverted box nothing is left, so that it counts as wrong; below 0 its size would be
    # outside every range and it would not count at all.
    lengths = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
    sides = torch.cat([boxes[:, :2], lengths], dim=1).double()
    areas = sides[:, 2] * sides[:, 3] if masks is None else masks.flatten(1).sum(1)
    entries = [
        {"label": label, "bbox": box, "area": float(area)}
        for label, box, area in zip(labels.tolist(), sides.tolist(), areas.tolist(), strict=True)
    ]
    if kind == "segm":
        assert masks is not None
        for entry, rle in zip(entries, _run_lengths(masks), strict=True):
            entry["segmentation"] = rle
    return entries


def _run_lengths(masks: Tensor) -> list[Entry]:
    from pycocotools import mask as coco_mask

    columns = np.asfortranarray(masks.permute(1, 2, 0).numpy().astype(np.uint8))
    coded: list[Entry] = coco_mask.encode(columns)
    return coded
