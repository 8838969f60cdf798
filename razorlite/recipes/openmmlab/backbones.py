"""Backbones, and the weights they start from."""

from collections.abc import Callable

from razorlite.recipes.openmmlab import pieces
from razorlite.recipes.openmmlab.blocks import Block, Tree, without

_STEMS = {"ResNetV1d": {"deep_stem": True, "avg_down": True}, "ResNetV1c": {"deep_stem": True}}
_MOBILENET_STAGES = {1: 0, 2: 1, 4: 2, 6: 3, 7: 4}  # the last layer of each stride, and theirs


def backbone(model: Block) -> Tree:
    """Return a model's backbone.

    Raises:
        ConfigError: there is none like it.
    """
    block = model.block("backbone")
    kind = block.type
    if kind not in _BACKBONES:
        raise block.refuse(f"the backbone {kind}", _BACKBONES)
    tree = _BACKBONES[kind](block, kind)
    weights = _weights(block) or _old_weights(model)
    block.finish()
    return {**without(tree), **({"pretrained": weights} if weights else {})}


def _weights(block: Block) -> str | None:
    if "init_cfg" not in block:
        return None
    cfg = block.block("init_cfg")
    if cfg.type != "Pretrained":
        block.lose("init_cfg", f"initialisation by {cfg.type} has no counterpart")
        return None
    cfg.ignore("prefix")
    found = _source(str(cfg.take("checkpoint")))
    if found is None:
        cfg.lose(
            "checkpoint", f"the weights {cfg.take('checkpoint')} are not fetched by name; {_FETCH}"
        )
    return found


def _old_weights(model: Block) -> str | None:
    name = model.take("pretrained")
    found = _source(str(name)) if name else None
    if name and found is None:
        model.lose("pretrained", f"the weights {name} are not fetched by name; {_FETCH}")
    return found


_FETCH = "put their file or address under model.backbone.pretrained"


def _source(name: str) -> str | None:
    """Return what `pretrained` of ours takes: torchvision's first weights, a file, an address."""
    scheme, _, rest = name.partition("://")
    if scheme == "torchvision" and rest.removeprefix("resnet").isdecimal():
        return f"ResNet{rest.removeprefix('resnet')}_Weights.IMAGENET1K_V1"
    if scheme == "torchvision" and rest == "mobilenet_v2":
        return "MobileNet_V2_Weights.IMAGENET1K_V1"
    return name if scheme in ("http", "https") or "://" not in name else None


def _resnet(block: Block, kind: str) -> Tree:
    tree: Tree = {"type": "ResNet", "depth": block.take("depth"), **_STEMS.get(kind, {})}
    if kind == "ResNeXt":
        tree |= {"groups": block.take("groups", 1), "base_width": block.take("base_width", 4)}
    stages = block.take("num_stages", 4)
    tree["out_indices"] = block.take("out_indices", list(range(4)))
    tree["strides"] = block.take("strides", [1, 2, 2, 2])
    tree["dilations"] = block.take("dilations", [1, 1, 1, 1])
    if stages != 4:
        block.lose("num_stages", f"{stages} stages: ours ends behind the last of out_indices")
    tree |= _kept(block, norm_eval=True)
    tree["style"] = block.take("style")
    for name in ("with_cp", "zero_init_residual", "deep_stem", "avg_down"):
        tree[name] = block.take(name, tree.get(name))
    tree["base_channels"] = base = 64 if kind == "ResNeXt" else block.take("base_channels", 64)
    for name, value in {"base_channels": base, "stem_channels": base, "in_channels": 3}.items():
        block.expect(name, value, None)
    tree["deform"] = _deform(block)
    tree["plugins"] = _plugins(block)
    _norms(block, tree)
    block.expect("conv_cfg", None)
    usual: Tree = {"out_indices": [0, 1, 2, 3], "strides": [1, 2, 2, 2], "dilations": [1, 1, 1, 1]}
    usual |= {"base_channels": 64}
    return without(tree, **usual, with_cp=False, zero_init_residual=True, style="pytorch")


def _norms(block: Block, tree: Tree) -> None:
    """Say whether norms are frozen; they are batch norms."""
    if "norm_cfg" not in block:
        return
    cfg = block.block("norm_cfg")
    if not cfg.take("requires_grad", True):
        tree["norm_frozen"] = True
    if cfg.type not in ("BN", "SyncBN", "SyncBatchNorm", "BatchNorm2d"):
        block.lose("norm_cfg", f"the norm {cfg.type} has no counterpart here, BN is taken")
        return
    cfg.finish()


def _kept(block: Block, *, norm_eval: bool) -> Tree:
    """Return what does not learn; `norm_eval` is theirs by default."""
    frozen = block.take("frozen_stages", -1)
    tree = {"frozen_stages": frozen, "norm_eval": block.take("norm_eval", norm_eval)}
    return without(tree, frozen_stages=-1, norm_eval=False)


def _deform(block: Block) -> Tree | None:
    if "dcn" not in block:
        block.ignore("stage_with_dcn")
        return None
    cfg = block.block("dcn")
    kind = cfg.type
    tree = {
        "stages": block.take("stage_with_dcn"),
        "modulated": kind in ("DCNv2", "ModulatedDeformConv"),
    }
    tree["groups"] = cfg.take("deform_groups", cfg.take("deformable_groups", 1))
    cfg.expect("fallback_on_stride", False)
    cfg.ignore("deformable_groups")
    cfg.finish()
    return without(tree, groups=1)


def _plugins(block: Block) -> list[Tree] | None:
    found = []
    for plugin in block.blocks("plugins"):
        cfg = plugin.block("cfg")
        kind = cfg.type
        if kind != "ContextBlock":
            plugin.lose("cfg", f"the plug-in {kind} has no counterpart")
            continue
        layer = {"type": kind, "ratio": cfg.take("ratio")}
        cfg.expect("pooling_type", "att")
        cfg.expect("fusion_types", ["channel_add"])
        cfg.finish()
        found.append(
            {
                "layer": without(layer),
                "stages": plugin.take("stages", [True] * 4),
                "position": plugin.take("position"),
            }
        )
        plugin.finish()
    return found or None


def _cspnext(block: Block, kind: str) -> Tree:
    tree: Tree = {"type": kind}
    for name in ("deepen_factor", "widen_factor", "expand_ratio", "channel_attention"):
        tree[name] = block.take(name)
    tree["out_indices"] = [i - 1 for i in block.take("out_indices", [2, 3, 4])]
    tree |= _kept(block, norm_eval=False)
    tree["norm"] = pieces.norm(block, default="BN")
    tree["activation"] = pieces.activation(block, "SiLU")
    block.expect("arch", "P5")
    block.expect("use_depthwise", False)
    block.expect("spp_kernel_sizes", [5, 9, 13])
    block.expect("conv_cfg", None)
    usual = {"expand_ratio": 0.5, "channel_attention": True, "out_indices": [1, 2, 3]}
    return without(tree, **usual, norm="BN", activation="SiLU")


def _mobilenet(block: Block, kind: str) -> Tree:
    tree: Tree = {"type": kind, "width": block.take("widen_factor")}
    indices = block.take("out_indices", [1, 2, 4, 7])
    if not set(indices) <= _MOBILENET_STAGES.keys():
        block.lose("out_indices", f"of {indices} only the last layers of strides can be returned")
    tree["out_indices"] = [_MOBILENET_STAGES[i] for i in indices if i in _MOBILENET_STAGES]
    frozen = block.take("frozen_stages", -1)
    if frozen > 0:
        block.lose("frozen_stages", f"{frozen} counts layers of another division")
    tree["norm_eval"] = block.take("norm_eval", False)
    _norms(block, tree)
    block.expect("act_cfg", {"type": "ReLU6"})
    return without(tree, norm_eval=False)


_BACKBONES: dict[str, Callable[[Block, str], Tree]] = {
    "ResNet": _resnet,
    "ResNetV1c": _resnet,
    "ResNetV1d": _resnet,
    "ResNeXt": _resnet,
    "CSPNeXt": _cspnext,
    "MobileNetV2": _mobilenet,
}
