"""Detectors: their parts, put together as ours are."""

from collections.abc import Callable

from razorlite.recipes.openmmlab.backbones import backbone
from razorlite.recipes.openmmlab.blocks import Block, Tree
from razorlite.recipes.openmmlab.heads import dense_head
from razorlite.recipes.openmmlab.necks import neck
from razorlite.recipes.openmmlab.queries import detr_parts
from razorlite.recipes.openmmlab.regions import region_heads


def detector(model: Block) -> Tree:
    """Return a detector's `model` block.

    Raises:
        ConfigError: the detector, or a part without which there is none, has no counterpart.
    """
    kind = model.type
    if kind not in _DETECTORS:
        raise model.refuse(f"the model {kind or 'without a type'}", _DETECTORS)
    tree: Tree = {"type": kind, "backbone": backbone(model)}
    if "neck" in model:
        tree["neck"] = neck(model.block("neck"))
    tree |= _DETECTORS[kind](model)
    if tree.get("bbox_head", {}).get("type") == "RTMDetInsSepBNHead":
        tree["type"] = "RTMDetIns"
    model.ignore("data_preprocessor", "train_cfg", "test_cfg")  # taken by others, or empty
    model.finish()
    return tree


def _one_stage(model: Block) -> Tree:
    return {"bbox_head": dense_head(model)}


_DETECTORS: dict[str, Callable[[Block], Tree]] = {
    "RetinaNet": _one_stage,
    "FCOS": _one_stage,
    "ATSS": _one_stage,
    "GFL": _one_stage,
    "RTMDet": _one_stage,
    "SingleStageDetector": _one_stage,
    "FasterRCNN": region_heads,
    "MaskRCNN": region_heads,
    "CascadeRCNN": region_heads,
    "DETR": detr_parts,
}
