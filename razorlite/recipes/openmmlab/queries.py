"""DETR, whose transformer stands in its head (MMDetection 2.x) or beside it (3.x)."""

from razorlite.recipes.openmmlab import pieces
from razorlite.recipes.openmmlab.blocks import Block, Tree, without


def detr_parts(model: Block) -> Tree:
    """Return `num_queries`, `neck`, `encoder`, `decoder` and `bbox_head` of a DETR.

    Raises:
        ConfigError: its head has no counterpart.
    """
    head = model.block("bbox_head")
    if head.type != "DETRHead":
        raise head.refuse(f"the head {head.type}", ["DETRHead"])
    old = "transformer" in head
    parts = head.block("transformer") if old else model
    tree: Tree = {
        "num_queries": (head if old else model).take("num_query" if old else "num_queries")
    }
    tree["encoder"], tree["decoder"] = (_stack(parts, part) for part in ("encoder", "decoder"))
    if old:
        tree["neck"] = _projection(head, tree["encoder"].get("embed_dims", 256))
        head.ignore("num_reg_fcs", "sync_cls_avg_factor")
        parts.ignore("type")
    _positions(head if old else model)
    tree["bbox_head"] = _head(head, model, tree["encoder"].get("embed_dims", 256))
    if old:
        parts.finish()
    return without(tree)


def _projection(head: Block, embed_dims: int) -> Tree:
    """Return the neck of what is the head's own first layer in 2.x."""
    return {
        "type": "ChannelMapper",
        "in_channels": [head.take("in_channels")],
        "out_channels": embed_dims,
        "kernel_size": 1,
        "activation": None,
    }


def _stack(parts: Block, part: str) -> Tree:
    """Return an encoder or a decoder."""
    stack = parts.block(part)
    tree: Tree = {"type": f"Detr{part.capitalize()}", "num_layers": stack.take("num_layers")}
    stack.ignore("type", "return_intermediate")
    if "transformerlayers" in stack:
        tree |= _layer(stack.block("transformerlayers"), "attn_cfgs")
    else:
        tree |= _layer(stack.block("layer_cfg"), "self_attn_cfg")
    stack.finish()
    return without(tree)


def _layer(layer: Block, key: str) -> Tree:
    attentions = [*layer.blocks(key), *layer.blocks("cross_attn_cfg")]
    tree: Tree = {}
    for attention in attentions:
        own = {name: attention.take(name) for name in ("embed_dims", "num_heads")}
        own["dropout"] = attention.take("dropout", attention.take("attn_drop"))
        attention.ignore("batch_first", "type", "attn_drop", "proj_drop")
        attention.finish()
        if tree and own != tree:
            layer.lose(key, "attentions that differ have no counterpart, but the first")
        tree = tree or own
    network = layer.block("ffn_cfg") if "ffn_cfg" in layer else layer
    tree["feedforward_channels"] = network.take("feedforward_channels")
    dropped = network.take("ffn_drop", network.take("ffn_dropout", tree.get("dropout")))
    if dropped != tree.get("dropout"):
        network.lose("ffn_drop", f"one dropout goes for all: {tree.get('dropout')}")
    network.ignore("embed_dims", "ffn_dropout", "operation_order", "type")
    network.expect("num_fcs", 2)
    if network is not layer:
        network.expect("act_cfg", {"type": "ReLU", "inplace": True}, {"type": "ReLU"})
        network.finish()
    layer.finish()
    return without(tree)


def _positions(owner: Block) -> None:
    block = owner.block("positional_encoding")
    block.ignore("type", "num_feats")
    block.expect("normalize", True)
    block.expect("temperature", 10000)
    block.expect("offset", 0.0, 0)
    block.finish()


def _head(head: Block, model: Block, embed_dims: int) -> Tree:
    tree: Tree = {"type": "DETRHead", "num_classes": head.take("num_classes")}
    tree["embed_dims"] = head.take("embed_dims", embed_dims)
    entropy = head.block("loss_cls")
    entropy.expect("type", "CrossEntropyLoss", "mmdet.CrossEntropyLoss")
    entropy.expect("use_sigmoid", False)
    weight = entropy.take("class_weight", 1.0)
    tree["background_weight"] = entropy.take("bg_cls_weight")
    tree["class_weight"] = entropy.take("loss_weight", 1.0)
    if weight not in (1, 1.0):
        entropy.lose("class_weight", f"{weight} has no counterpart")
    for name in ("loss_bbox", "loss_iou"):
        tree[name] = pieces.loss(head, name)
    train, test = model.block("train_cfg"), model.block("test_cfg")
    tree["assigner"] = pieces.assigner(train)
    most = test.take("max_per_img", 100)
    if most != 100:
        tree["post_process"] = {"score_thr": 0.0, "iou_threshold": None, "max_per_img": most}
    for block in (entropy, head, train, test):
        block.finish()
    return without(tree)
