"""Losses, anchors, assigners, samplers, norms and what is kept of detections."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from razorlite.recipes.openmmlab.blocks import Block, Tree, without
from razorlite.recipes.openmmlab.expressions import from_plain

SMOOTH_L1: Tree = {"type": "SmoothL1Loss", "beta": 1 / 9}
CROSS_ENTROPY: Tree = {"type": "CrossEntropyLoss"}


@dataclass(frozen=True)
class _Loss:
    """Which arguments a loss shares with ours, their defaults there, and what others must be."""

    shared: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


_SIGMOID = {"use_sigmoid": (True,), "activated": (False,)}
_OVERLAP = _Loss({"eps": 1e-6})
_LOSSES = {
    "FocalLoss": _Loss({"gamma": 2.0, "alpha": 0.25}, _SIGMOID),
    "QualityFocalLoss": _Loss({"beta": 2.0}, _SIGMOID),
    "DistributionFocalLoss": _Loss(),
    "L1Loss": _Loss(),
    "SmoothL1Loss": _Loss({"beta": 1.0}),
    "IoULoss": _Loss({"eps": 1e-6, "mode": "log"}, {"linear": (False,)}),
    "GIoULoss": _OVERLAP,
    "DIoULoss": _OVERLAP,
    "CIoULoss": _OVERLAP,
    "DiceLoss": _Loss(
        {"eps": 1e-3}, {"use_sigmoid": (True,), "activate": (True,), "naive_dice": (False,)}
    ),
}


def loss(head: Block, key: str, default: Tree | None = None, *, sigmoid: str = "") -> Tree | None:
    """Return a head's loss; None where ours has what theirs has by default.

    Args:
        head: the head's block.
        key: of the loss in it.
        default: theirs, where the head names none.
        sigmoid: our type for the cross entropy of sigmoid logits.
    """
    if key not in head:
        head.ignore(key)
        if default is None:
            return None
        node = from_plain(default, head.node.source)
        return _loss(Block(node, head.at(key), head.remarks), head, key, sigmoid)
    return _loss(head.block(key), head, key, sigmoid)


def _loss(block: Block, head: Block, key: str, sigmoid: str) -> Tree | None:
    kind = block.type
    weight = {"loss_weight": block.take("loss_weight", 1.0)}
    block.expect("reduction", "mean")
    if kind == "CrossEntropyLoss":
        ours = sigmoid if block.take("use_sigmoid", False) else "CrossEntropy"
        block.expect("class_weight", None)
        if ours:
            block.finish()
            return {"type": ours, **weight}
    known = _LOSSES.get(kind)
    if known is None:
        head.lose(key, f"the loss {kind} has no counterpart")
        return None
    shared = {name: block.take(name, value) for name, value in known.shared.items()}
    for name, values in known.others.items():
        block.expect(name, *values)
    block.finish()
    return {"type": kind, **without(shared, **known.shared), **weight}


def norm(block: Block, key: str = "norm_cfg", default: str | None = None) -> str | None:
    """Return the kind of norm of a block's layers; batch norms of all processes are just that.

    Args:
        block: of the layers.
        key: of their norm.
        default: theirs, where the block names none.
    """
    if key not in block:
        return None if block.give(key, default) is None else default
    cfg = block.block(key)
    kind = cfg.type
    cfg.expect("requires_grad", True)
    cfg.expect("momentum", 0.1)
    cfg.expect("eps", 1e-5)
    if kind == "GN":
        cfg.expect("num_groups", 32)
    if kind not in ("BN", "SyncBN", "BN2d", "BatchNorm2d", "SyncBatchNorm", "GN", "GroupNorm"):
        block.lose(key, f"the norm {kind} has no counterpart")
        return default
    cfg.finish()
    return "GN" if kind.startswith("G") else "BN"


def activation(block: Block, default: str | None, key: str = "act_cfg") -> str | None:
    """Return the kind of activation of a block's layers, None for none."""
    known = {"ReLU", "SiLU", "LeakyReLU", "HSigmoid", "HSwish"}
    if key not in block:
        return None if block.give(key, default) is None else default
    cfg = block.block(key)
    kind = {"Swish": "SiLU"}.get(cfg.type, cfg.type)
    cfg.ignore("inplace")
    if kind not in known:
        block.lose(key, f"the activation {kind} has no counterpart")
        return default
    cfg.finish()
    return kind


def anchors(head: Block, key: str = "anchor_generator") -> Tree | None:
    """Return the anchors of a head; None where it names none."""
    if key not in head:
        return None
    block = head.block(key)
    if block.type != "AnchorGenerator":
        head.lose(key, f"anchors of {block.type} have no counterpart")
        return None
    names = ("strides", "ratios", "scales", "octave_base_scale", "scales_per_octave")
    tree = {"type": "AnchorGenerator", **{name: block.take(name) for name in names}}
    tree["strides"] = strides(tree["strides"])
    block.expect("base_sizes", None)
    block.expect("scale_major", True)
    block.expect("center_offset", 0, 0.0)
    block.finish()
    return without(tree)


def strides(values: Any) -> Any:
    """Return strides as whole numbers, of which theirs may be pairs."""
    if not isinstance(values, list):
        return values
    return [value[0] if isinstance(value, list) else value for value in values]


def coder(head: Block, key: str = "bbox_coder") -> Tree:
    """Return how a head scales its deltas: `target_means` and `target_stds`."""
    block = head.block(key)
    if key in head and block.type != "DeltaXYWHBBoxCoder":
        head.lose(key, f"the coder {block.type} has no counterpart")
        return {}
    scaled = {name: block.take(name) for name in ("target_means", "target_stds")}
    block.expect("clip_border", True)
    block.expect("add_ctr_clamp", False)
    block.finish()
    return without(scaled)


def assigner(cfg: Block, key: str = "assigner") -> Tree | None:
    """Return which prediction learns which object; None where nothing is named."""
    if key not in cfg:
        return None
    block = cfg.block(key)
    convert = _ASSIGNERS.get(block.type)
    if convert is None:
        cfg.lose(key, f"the assigner {block.type} has no counterpart")
        return None
    tree = convert(block)
    block.ignore("iou_calculator")
    block.finish()
    return {"type": block.type, **tree}


def _max_iou(block: Block) -> Tree:
    names = {
        "pos_iou_thr": None,
        "neg_iou_thr": None,
        "min_pos_iou": 0.0,
        "match_low_quality": True,
    }
    tree = {name: block.take(name, value) for name, value in names.items()}
    block.expect("ignore_iof_thr", -1)
    block.expect("gt_max_assign_all", True)
    block.expect("gpu_assign_thr", -1)
    return without(tree)


def _atss(block: Block) -> Tree:
    block.expect("alpha", None)
    return {"topk": block.take("topk", 9)}


def _dynamic(block: Block) -> Tree:
    names = {"topk": 13, "iou_weight": 3.0, "soft_center_radius": 3.0}
    return {name: block.take(name, value) for name, value in names.items()}


def _hungarian(block: Block) -> Tree:
    """Return the costs: in a list (3.x), or each under its name (2.x)."""
    names = {"ClassificationCost": "class_cost", "BBoxL1Cost": "bbox_cost", "IoUCost": "giou_cost"}
    old = [block.block(key) for key in ("cls_cost", "reg_cost", "iou_cost") if key in block]
    tree: Tree = {}
    for cost in (*block.blocks("match_costs"), *old):
        kind = cost.type
        if kind not in names:
            block.lose("match_costs", f"the cost {kind} has no counterpart")
            continue
        tree[names[kind]] = cost.take("weight", 1.0)
        cost.expect("box_format", "xywh")
        cost.expect("iou_mode", "giou")
        cost.finish()
    return tree


_ASSIGNERS = {
    "MaxIoUAssigner": _max_iou,
    "ATSSAssigner": _atss,
    "DynamicSoftLabelAssigner": _dynamic,
    "HungarianAssigner": _hungarian,
}


def sampler(cfg: Block, key: str = "sampler") -> Tree | None:
    """Return which candidates a step learns from; None where nothing is named."""
    if key not in cfg:
        return None
    block = cfg.block(key)
    kind = block.type
    if kind not in ("RandomSampler", "OHEMSampler", "PseudoSampler"):
        cfg.lose(key, f"the sampler {kind} has no counterpart")
        return None
    tree: Tree = {"type": kind}
    if kind != "PseudoSampler":
        tree |= {"num": block.take("num"), "pos_fraction": block.take("pos_fraction")}
        block.expect("neg_pos_ub", -1)
    tree["add_gt_as_proposals"] = block.take("add_gt_as_proposals", kind != "PseudoSampler")
    block.finish()
    return without(tree, add_gt_as_proposals=False)


def post_process(cfg: Block, **ours: Any) -> Tree | None:
    """Return what is kept of the detections; None where nothing is named.

    Args:
        cfg: what a head does in tests, or of proposals.
        ours: settings beside those.
    """
    if not cfg.node.value:
        return None
    names = ("score_thr", "nms_pre", "max_per_img", "min_bbox_size")
    tree = {**ours, **without({name: cfg.take(name) for name in names}, min_bbox_size=0)}
    if "nms" in cfg:
        tree |= _suppression(cfg, cfg.block("nms"))
    cfg.expect("nms_across_levels", False)
    return tree


def _suppression(cfg: Block, block: Block) -> Tree:
    kind = block.type or "nms"
    tree: Tree = {"iou_threshold": block.take("iou_threshold", block.take("iou_thr"))}
    if kind == "soft_nms":
        tree["soft_nms"] = block.take("method", "linear")
        tree["soft_nms_sigma"] = block.take("sigma")
        tree["soft_nms_min_score"] = block.take("min_score")
    elif kind != "nms":
        cfg.lose("nms", f"suppression by {kind} has no counterpart")
        return {}
    block.finish()
    return without(tree)
