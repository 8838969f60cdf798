"""Torch's transformers as they compute, without their short cuts, which cannot be followed.

`nn.Transformer` and its parts branch on shapes, masks and modes, and may call one fused function
that reads all weights. What is traced is the plain course of their layers, see "Attention Is All
You Need", https://arxiv.org/abs/1706.03762, figure 1.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from razorlite.trace import swin

Mask = Tensor | None


def follow_plainly(model: nn.Module) -> nn.Module:
    """Let torch's transformers in a copy take their plain course; return the copy."""
    for module in model.modules():
        forward = _PLAIN.get(type(module)) or swin.PLAIN.get(type(module))
        if forward is not None and "forward" not in vars(module):
            vars(module)["forward"] = partial(forward, module)
    return model


def _transformer(
    model: Any,
    src: Tensor,
    tgt: Tensor,
    src_mask: Mask = None,
    tgt_mask: Mask = None,
    memory_mask: Mask = None,
    src_key_padding_mask: Mask = None,
    tgt_key_padding_mask: Mask = None,
    memory_key_padding_mask: Mask = None,
    **_: Any,
) -> Any:
    memory = model.encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask)
    return model.decoder(
        tgt,
        memory,
        tgt_mask=tgt_mask,
        memory_mask=memory_mask,
        tgt_key_padding_mask=tgt_key_padding_mask,
        memory_key_padding_mask=memory_key_padding_mask,
    )


def _encoder(
    stack: Any, src: Tensor, mask: Mask = None, src_key_padding_mask: Mask = None, **_: Any
) -> Any:
    for layer in stack.layers:
        src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask)
    return src if stack.norm is None else stack.norm(src)


def _decoder(stack: Any, tgt: Tensor, memory: Tensor, *masks: Mask, **named: Any) -> Any:
    named = {key: value for key, value in named.items() if not key.endswith("is_causal")}
    for layer in stack.layers:
        tgt = layer(tgt, memory, *masks[:4], **named)
    return tgt if stack.norm is None else stack.norm(tgt)


def _encoder_layer(
    layer: Any, src: Tensor, src_mask: Mask = None, src_key_padding_mask: Mask = None, **_: Any
) -> Any:
    if layer.norm_first:
        src = src + layer._sa_block(layer.norm1(src), src_mask, src_key_padding_mask)
        return src + layer._ff_block(layer.norm2(src))
    src = layer.norm1(src + layer._sa_block(src, src_mask, src_key_padding_mask))
    return layer.norm2(src + layer._ff_block(src))


_PLAIN: dict[type[nn.Module], Callable[..., Any]] = {
    nn.Transformer: _transformer,
    nn.TransformerEncoder: _encoder,
    nn.TransformerDecoder: _decoder,
    nn.TransformerEncoderLayer: _encoder_layer,
}
LOOKED_INTO = (*_PLAIN, nn.TransformerDecoderLayer)
