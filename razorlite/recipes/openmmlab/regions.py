"""Two-stage detectors: what proposes regions, and what looks at each."""

from typing import Any

from razorlite.recipes.openmmlab import pieces
from razorlite.recipes.openmmlab.blocks import Block, Tree, without

_PROPOSALS: Tree = {"score_thr": 0.0}
_REGIONS: Tree = {"min_bbox_size": -1.0}  # any box counts, as in theirs
_KINDS = ("StandardRoIHead", "CascadeRoIHead")


def region_heads(model: Block) -> Tree:
    """Return `rpn_head` and `roi_head` of a two-stage detector.

    Raises:
        ConfigError: there are none like them.
    """
    train, test = model.block("train_cfg"), model.block("test_cfg")
    heads = {"rpn_head": _rpn(model.block("rpn_head"), train, test)}
    heads["roi_head"] = _roi(model.block("roi_head"), train, test)
    for block in (train, test):
        block.finish()
    return heads


def _rpn(head: Block, train: Block, test: Block) -> Tree:
    if head.type != "RPNHead":
        raise head.refuse(f"the head {head.type}", ["RPNHead"])
    tree: Tree = {"type": "RPNHead", "in_channels": head.take("in_channels")}
    tree["feat_channels"] = head.take("feat_channels")
    tree["anchor_generator"] = pieces.anchors(head)
    tree |= pieces.coder(head)
    head.expect("num_convs", 1)
    head.expect("reg_decoded_bbox", False)
    entropy = {**pieces.CROSS_ENTROPY, "use_sigmoid": True}
    tree["loss_cls"] = pieces.loss(head, "loss_cls", entropy, sigmoid="ObjectnessLoss")
    tree["loss_bbox"] = pieces.loss(head, "loss_bbox", pieces.SMOOTH_L1)
    learning = train.block("rpn")
    tree["assigner"], tree["sampler"] = pieces.assigner(learning), pieces.sampler(learning)
    border = learning.take("allowed_border", -1)
    tree["allowed_border"] = None if border < 0 else border
    _finish(learning)
    tree["train_proposals"] = _proposals(train.block("rpn_proposal"))
    tree["test_proposals"] = _proposals(test.block("rpn"))
    head.finish()
    return without(tree)


def _proposals(cfg: Block) -> Tree | None:
    tree = pieces.post_process(cfg, **_PROPOSALS)
    if tree is not None and "max_per_img" not in tree:
        tree["max_per_img"] = cfg.take("max_num", cfg.take("nms_post"))
    if "nms_thr" in cfg and tree is not None:
        tree["iou_threshold"] = cfg.take("nms_thr")
    cfg.ignore("max_num", "nms_post")
    cfg.finish()
    return None if tree is None else without(tree)


def _finish(learning: Block) -> None:
    learning.expect("pos_weight", -1)
    learning.ignore("debug")
    learning.finish()


def _roi(head: Block, train: Block, test: Block) -> Tree:
    kind = head.type
    if kind not in _KINDS:
        raise head.refuse(f"the head {kind}", _KINDS)
    tree: Tree = {"type": kind, **_pooling(head, "bbox_roi_extractor", 7)}
    if "mask_roi_extractor" in head:
        _pooling(head, "mask_roi_extractor", 14)
    if kind == "StandardRoIHead":
        tree |= _one_stage(head, train)
    else:
        tree |= _several_stages(head, train)
    cfg = test.block("rcnn")
    tree["post_process"] = pieces.post_process(cfg, **_REGIONS)
    cfg.expect("mask_thr_binary", 0.5)
    for block in (cfg, head):
        block.finish()
    return without(tree)


def _pooling(head: Block, key: str, side: int) -> Tree:
    """Return `strides` and `finest_scale`; the size of the regions must be the heads'."""
    block = head.block(key)
    if key in head and block.type != "SingleRoIExtractor":
        head.lose(key, f"pooling by {block.type} has no counterpart")
        return {}
    tree = {"strides": block.take("featmap_strides"), "finest_scale": block.take("finest_scale")}
    block.ignore("out_channels")
    layer = block.block("roi_layer")
    layer.expect("type", "RoIAlign")
    layer.expect("output_size", side, [side, side])
    layer.expect("sampling_ratio", 0)
    for one in (layer, block):
        one.finish()
    return without(tree)


def _one_stage(head: Block, train: Block) -> Tree:
    learning = train.block("rcnn")
    tree: Tree = {"bbox_head": _box_head(head.block("bbox_head"))}
    if "mask_head" in head:
        tree["mask_head"] = _mask_head(head.block("mask_head"))
    tree["assigner"], tree["sampler"] = pieces.assigner(learning), pieces.sampler(learning)
    learning.expect("mask_size", 28)
    _finish(learning)
    return tree


def _several_stages(head: Block, train: Block) -> Tree:
    stages = head.take("num_stages")
    boxes = [_box_head(block) for block in _each(head, "bbox_head", stages)]
    tree: Tree = {"bbox_head": boxes, "stage_loss_weights": head.take("stage_loss_weights")}
    if "mask_head" in head:
        tree["mask_head"] = [_mask_head(block) for block in _each(head, "mask_head", stages)]
    samplers, assigners = [], []
    for learning in _each(train, "rcnn", stages):
        assigners.append(pieces.assigner(learning))
        samplers.append(pieces.sampler(learning))
        learning.expect("mask_size", 28)
        _finish(learning)
    tree["assigner"] = assigners if all(assigners) else None
    tree["sampler"] = samplers[0] if samplers else None
    if any(one != samplers[0] for one in samplers):
        train.lose("rcnn", "samplers that differ between stages have no counterpart, but the first")
    return tree


def _each(owner: Block, key: str, stages: Any) -> list[Block]:
    """Return one block for each stage, of which theirs may be one for all."""
    blocks = owner.blocks(key)
    return blocks * int(stages or 1) if len(blocks) == 1 else blocks


def _box_head(block: Block) -> Tree:
    if block.type != "Shared2FCBBoxHead":
        raise block.refuse(f"the head {block.type}", ["Shared2FCBBoxHead"])
    tree: Tree = {"type": "Shared2FCBBoxHead"}
    for name in ("num_classes", "in_channels", "fc_out_channels", "roi_feat_size"):
        tree[name] = block.take(name)
    tree["reg_class_agnostic"] = block.take("reg_class_agnostic", False)
    tree |= pieces.coder(block)
    block.expect("reg_decoded_bbox", False)
    tree["loss_cls"] = pieces.loss(block, "loss_cls")
    tree["loss_bbox"] = pieces.loss(block, "loss_bbox", {"type": "SmoothL1Loss"})
    block.finish()
    return without(tree, reg_class_agnostic=False)


def _mask_head(block: Block) -> Tree:
    if block.type != "FCNMaskHead":
        raise block.refuse(f"the head {block.type}", ["FCNMaskHead"])
    tree: Tree = {"type": "FCNMaskHead"}
    for name in ("num_classes", "in_channels", "num_convs", "conv_out_channels"):
        tree[name] = block.take(name)
    tree["norm"] = pieces.norm(block)
    cfg = block.block("loss_mask")
    cfg.expect("type", "CrossEntropyLoss", "mmdet.CrossEntropyLoss")
    cfg.expect("use_mask", True)
    tree["loss_weight"] = cfg.take("loss_weight")
    for one in (cfg, block):
        one.finish()
    return without(tree)
