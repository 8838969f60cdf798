"""Necks."""

from collections.abc import Callable

from razorlite.recipes.openmmlab import pieces
from razorlite.recipes.openmmlab.blocks import Block, Tree, without


def neck(block: Block) -> Tree:
    """Return a neck.

    Raises:
        ConfigError: there is none like it.
    """
    kind = block.type
    if kind not in _NECKS:
        raise block.refuse(f"the neck {kind}", _NECKS)
    tree = {"type": kind, "in_channels": block.take("in_channels")}
    tree["out_channels"] = block.take("out_channels")
    tree |= _NECKS[kind](block)
    block.finish()
    return tree


def _fpn(block: Block) -> Tree:
    extra = block.take("add_extra_convs", False)
    if extra is True:
        extra = "on_input" if block.take("extra_convs_on_inputs", True) else "on_output"
    block.ignore("extra_convs_on_inputs")
    block.expect("end_level", -1)
    block.expect("conv_cfg", None)
    block.expect("act_cfg", None)
    block.expect("upsample_cfg", {"mode": "nearest"})
    tree: Tree = {"num_outs": block.take("num_outs"), "start_level": block.take("start_level")}
    tree["add_extra_convs"] = extra
    tree["relu_before_extra_convs"] = block.take("relu_before_extra_convs", False)
    tree["norm"] = pieces.norm(block)
    tree["norm_on_lateral"] = not block.take("no_norm_on_lateral", False)
    return without(
        tree,
        start_level=0,
        add_extra_convs=False,
        relu_before_extra_convs=False,
        norm_on_lateral=True,
    )


def _mapper(block: Block) -> Tree:
    block.expect("conv_cfg", None)
    tree: Tree = {"kernel_size": block.take("kernel_size", 3), "num_outs": block.take("num_outs")}
    tree["norm"] = pieces.norm(block)
    return {**without(tree), "activation": pieces.activation(block, "ReLU")}


def _cspnext(block: Block) -> Tree:
    block.expect("use_depthwise", False)
    block.expect("upsample_cfg", {"scale_factor": 2, "mode": "nearest"})
    block.expect("conv_cfg", None)
    tree: Tree = {"num_csp_blocks": block.take("num_csp_blocks", 3)}
    tree["expand_ratio"] = block.take("expand_ratio")
    tree["norm"] = pieces.norm(block, default="BN")
    tree["activation"] = pieces.activation(block, "SiLU")
    return without(tree, expand_ratio=0.5, norm="BN", activation="SiLU")


_NECKS: dict[str, Callable[[Block], Tree]] = {
    "FPN": _fpn,
    "PAFPN": _fpn,
    "ChannelMapper": _mapper,
    "CSPNeXtPAFPN": _cspnext,
}
