"""Dense heads: RetinaNet, FCOS, ATSS, GFL, RTMDet."""

from collections.abc import Callable

from razorlite.recipes.openmmlab import pieces
from razorlite.recipes.openmmlab.blocks import Block, Tree, without

_DEFAULT_RANGES = [[-1, 64], [64, 128], [128, 256], [256, 512]]
_FAR = 1e5  # pixels; theirs writes 1e8 for without end


def dense_head(model: Block) -> Tree:
    """Return the head of a one-stage detector.

    Raises:
        ConfigError: there is none like it.
    """
    head = model.block("bbox_head")
    kind = head.type
    if kind not in _HEADS:
        raise head.refuse(f"the head {kind}", _HEADS)
    train, test = model.block("train_cfg"), model.block("test_cfg")
    tree = {"type": _TYPES.get(kind, kind), "num_classes": head.take("num_classes")}
    tree["in_channels"] = head.take("in_channels")
    tree |= _HEADS[kind](head)
    tree["assigner"] = pieces.assigner(train)
    tree["post_process"] = pieces.post_process(test)
    train.expect("sampler", None, {"type": "PseudoSampler"})
    _finish_training(train)
    test.expect("multi_label", True)
    test.expect("mask_thr_binary", 0.5)
    for block in (head, train, test):
        block.finish()
    return without(tree)


def _finish_training(train: Block) -> None:
    train.expect("allowed_border", -1, 0)
    train.expect("pos_weight", -1)
    train.ignore("debug")


def _towers(head: Block, norm: str | None) -> Tree:
    head.expect("conv_cfg", None)
    tree = {"feat_channels": head.take("feat_channels", 256)}
    tree["stacked_convs"] = head.take("stacked_convs", 4)
    return {
        **without(tree, feat_channels=256, stacked_convs=4),
        "norm": pieces.norm(head, default=norm),
    }


def _retina(head: Block) -> Tree:
    head.expect("reg_decoded_bbox", False)
    tree = _towers(head, None) | {"anchor_generator": pieces.anchors(head)} | pieces.coder(head)
    tree["loss_cls"] = pieces.loss(head, "loss_cls")
    tree["loss_bbox"] = pieces.loss(head, "loss_bbox", pieces.SMOOTH_L1)
    return tree


def _separate_retina(head: Block) -> Tree:
    head.ignore("num_ins")
    return {**_retina(head), "norm_per_level": True}


def _fcos(head: Block) -> Tree:
    tree = _towers(head, "GN")
    tree["strides"] = pieces.strides(head.take("strides", [4, 8, 16, 32, 64]))
    tree["regress_ranges"] = _ranges(head, tree["strides"])
    for name in ("center_sampling", "norm_on_bbox", "centerness_on_reg"):
        tree[name] = head.take(name)
    tree["center_sample_radius"] = head.take("center_sample_radius")
    bias = head.take("conv_bias", "auto")
    tree["conv_bias"] = None if bias == "auto" else bias
    head.expect("dcn_on_last_conv", False)
    head.expect("bbox_coder", None, {"type": "DistancePointBBoxCoder"})
    tree["loss_cls"] = pieces.loss(head, "loss_cls")
    tree["loss_bbox"] = pieces.loss(head, "loss_bbox")
    tree["loss_centerness"] = pieces.loss(head, "loss_centerness", sigmoid="BinaryCrossEntropy")
    return tree


def _ranges(head: Block, strides: list[int]) -> list[list[float]] | None:
    """Return the side distances of each level; None where they are those that ours has anyway."""
    given = head.take("regress_ranges", [*_DEFAULT_RANGES, [512, 1e8]])
    ends = [8.0 * stride for stride in strides[:-1]]
    usual = [list(pair) for pair in zip([-1.0, *ends], [*ends, 1e8], strict=True)]
    same = len(given) == len(usual) and all(
        one == other or (min(one[1], other[1]) > _FAR and one[0] == other[0])
        for one, other in zip(given, usual, strict=True)
    )
    return None if same else given


def _atss(head: Block) -> Tree:
    head.expect("pred_kernel_size", 3)
    head.expect("reg_decoded_bbox", True)
    tree = _towers(head, "GN") | {"anchor_generator": pieces.anchors(head)} | pieces.coder(head)
    tree["loss_cls"] = pieces.loss(head, "loss_cls")
    tree["loss_bbox"] = pieces.loss(head, "loss_bbox", pieces.SMOOTH_L1)
    tree["loss_centerness"] = pieces.loss(head, "loss_centerness", sigmoid="BinaryCrossEntropy")
    return tree


def _gfl(head: Block) -> Tree:
    tree = _towers(head, "GN") | {"anchor_generator": pieces.anchors(head)}
    tree["reg_max"] = head.take("reg_max")
    head.expect("bbox_coder", None, {"type": "DistancePointBBoxCoder"})
    for name in ("loss_cls", "loss_bbox", "loss_dfl"):
        tree[name] = pieces.loss(head, name)
    return tree


def _rtmdet(head: Block) -> Tree:
    points = head.block("anchor_generator")
    tree: Tree = {"strides": pieces.strides(points.take("strides"))}
    points.expect("type", "MlvlPointGenerator", "mmdet.MlvlPointGenerator")
    points.expect("offset", 0)
    points.finish()
    for name in ("feat_channels", "stacked_convs", "pred_kernel_size", "exp_on_reg"):
        tree[name] = head.take(name)
    tree["norm"] = pieces.norm(head, default="BN")
    tree["activation"] = pieces.activation(head, "SiLU" if "act_cfg" in head else "ReLU")
    head.expect("share_conv", True)
    head.expect("with_objectness", False)
    head.expect("use_depthwise", False)
    head.expect("bbox_coder", None, {"type": "DistancePointBBoxCoder"})
    tree["loss_cls"] = pieces.loss(head, "loss_cls")
    tree["loss_bbox"] = pieces.loss(head, "loss_bbox")
    return tree


def _rtmdet_masks(head: Block) -> Tree:
    for name, value in {"num_dyn_conv": 3, "dyconv_channels": 8, "num_dyconvs": 3}.items():
        head.expect(name, value)
    tree = _rtmdet(head)
    tree.pop("exp_on_reg")
    for name in ("num_prototypes", "mask_loss_stride"):
        tree[name] = head.take(name)
    tree["loss_mask"] = pieces.loss(head, "loss_mask")
    return tree


_TYPES = {"RetinaSepBNHead": "RetinaHead"}
_HEADS: dict[str, Callable[[Block], Tree]] = {
    "RetinaHead": _retina,
    "RetinaSepBNHead": _separate_retina,
    "FCOSHead": _fcos,
    "ATSSHead": _atss,
    "GFLHead": _gfl,
    "RTMDetSepBNHead": _rtmdet,
    "RTMDetInsSepBNHead": _rtmdet_masks,
}
