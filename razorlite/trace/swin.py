"""torchvision's Swin transformers as they compute, in steps whose channels can be followed.

They take the width of a head from that of the stream, and scale attention by it: a head goes with
as many channels of the stream as it is wide, so that every other head stays what it was.

Swin, https://arxiv.org/abs/2103.14030, section 3; Swin V2, https://arxiv.org/abs/2111.09883,
section 3.2, equation 2.
"""

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.overrides import handle_torch_function, has_torch_function
from torchvision.models import swin_transformer

from razorlite.trace import maps
from razorlite.trace.attributes import Attribute
from razorlite.trace.calls import Call, Rule
from razorlite.trace.ledger import Ledger


def _step(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a function be one call to those who watch functions of torch's."""

    @wraps(function)
    def run(*args: Any) -> Any:
        tensors = [x for x in args if isinstance(x, Tensor)]
        if has_torch_function(tensors):
            return handle_torch_function(run, tensors, *args)
        return function(*args)

    return run


def _padded(x: Tensor, size: Sequence[int], shift: Sequence[int]) -> tuple[Tensor, list[int]]:
    """Pad (N, H, W, C) to whole windows; return how far these are shifted, too."""
    more = [-n % int(s) for n, s in zip(x.shape[1:3], size, strict=True)]
    x = F.pad(x, (0, 0, 0, more[1], 0, more[0]))
    pairs = zip(x.shape[1:3], size, shift, strict=True)
    return x, [0 if int(s) >= n else int(by) for n, s, by in pairs]


def _parted(x: Tensor, size: Sequence[int]) -> Tensor:
    """From (N, H, W, C) to (N * windows, places, C)."""
    high, wide = map(int, size)
    parts = x.unflatten(1, (-1, high)).unflatten(3, (-1, wide)).transpose(2, 3)
    joined: Tensor = parts.flatten(0, 2).flatten(1, 2)
    return joined


@_step
def windows(x: Tensor, size: Sequence[int], shift: Sequence[int]) -> Tensor:
    """From a map (N, H, W, C) to its shifted windows, (N * windows, places, C)."""
    x, by = _padded(x, size, shift)
    return _parted(torch.roll(x, (-by[0], -by[1]), (1, 2)), size)


@_step
def unwindowed(parts: Tensor, like: Tensor, size: Sequence[int], shift: Sequence[int]) -> Tensor:
    """From windows (N * windows, places, C) back to a map (N, H, W, C) of the size of another."""
    padded, by = _padded(like, size, shift)
    (high, wide), (rows, columns) = map(int, size), padded.shape[1:3]
    x = parts.reshape(-1, rows // high, columns // wide, high, wide, parts.shape[-1])
    x = x.transpose(2, 3).reshape(-1, rows, columns, parts.shape[-1])
    x = torch.roll(x, (by[0], by[1]), (1, 2))
    return x[:, : like.shape[1], : like.shape[2]].contiguous()


@_step
def heads_of(qkv: Tensor, stream: Tensor, heads: int, cosine: bool) -> Tensor:
    """From (N, T, 3 C) to queries, keys and values (3, N, heads, T, C / heads), scaled."""
    parts = qkv.reshape(*qkv.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = parts.unbind(0)
    if cosine:
        return torch.stack((F.normalize(query, dim=-1), F.normalize(key, dim=-1), value))
    return torch.stack((query * query.shape[-1] ** -0.5, key, value))


@_step
def biases(table: Tensor, index: Tensor, places: int) -> Tensor:
    """From a table (R, heads) to the biases of pairs of places, (1, heads, T, T)."""
    return table[index].reshape(places, places, -1).permute(2, 0, 1)[None]


@_step
def masked(scores: Tensor, like: Tensor, size: Sequence[int], shift: Sequence[int]) -> Tensor:
    """Let only places attend to one another that lie together, (N * windows, heads, T, T)."""
    x, by = _padded(like, size, shift)
    region = x.new_zeros(x.shape[1:3])
    for dim, edge in enumerate(by):
        if edge:
            far = region.narrow(dim, region.shape[dim] - edge, edge)
            far += 1 + 2 * dim
    parts = _parted(region[None, ..., None], size)[..., 0]
    apart = (parts[:, None, :] != parts[:, :, None]).to(scores.dtype) * -100.0
    hidden: Tensor = scores.unflatten(0, (-1, len(parts))) + apart[:, None]
    return hidden.flatten(0, 1)


@_step
def quarters(x: Tensor) -> Tensor:
    """From (N, H, W, C) to the four places of each square, (N, H / 2, W / 2, 4 C)."""
    merged: Tensor = swin_transformer._patch_merging_pad(x)
    return merged


for _name in ("windows", "unwindowed", "heads_of", "biases", "masked", "quarters"):
    fx.wrap(_name)


def _attention(module: Any, x: Tensor) -> Tensor:
    """`ShiftedWindowAttention`, of either version."""
    window, cosine = (module.window_size, module.shift_size), hasattr(module, "logit_scale")
    stream = windows(x, *window)
    query, key, value = heads_of(module.qkv(stream), stream, module.num_heads, cosine).unbind(0)
    scores = query.matmul(key.transpose(-2, -1))
    if cosine:
        scores = scores * module.logit_scale.clamp(max=math.log(100.0)).exp()
    scores = masked(scores + _biases(module, cosine), x, *window)
    attended = scores.softmax(-1).matmul(value).transpose(1, 2).flatten(2)
    return unwindowed(module.proj(attended), x, *window)


def _biases(module: Any, cosine: bool) -> Tensor:
    index, places = module.relative_position_index, math.prod(map(int, module.window_size))
    if not cosine:
        return biases(module.relative_position_bias_table, index, places)
    table = module.cpb_mlp(module.relative_coords_table).flatten(0, 2)
    return 16 * biases(table, index, places).sigmoid()


def _merging(module: Any, x: Tensor) -> Tensor:
    merged: Tensor = module.reduction(module.norm(quarters(x)))
    return merged


def _merging_v2(module: Any, x: Tensor) -> Tensor:
    merged: Tensor = module.norm(module.reduction(quarters(x)))
    return merged


def _split(call: Call, ledger: Ledger) -> Any:
    """Tie each head of queries, keys and values to its share of the stream."""
    qkv, stream, heads = call.labels[0], call.labels[1], call.args[2]
    lines: Any = [maps.line(x, -1) for x in (qkv, stream)]
    rows = [*lines[0].reshape(3, heads, -1), lines[1].reshape(heads, -1)]
    ledger.tie(np.concatenate(rows, axis=1), call.where)
    if isinstance(heads, Attribute):
        ledger.count(heads, rows[0][:, 0], call.where)
    return maps.broadcast(ledger.roots(rows[0][:, 0]), 2, call.out.shape)


def _looked_up(call: Call, ledger: Ledger) -> Any:
    table = call.labels[0]
    if ledger.is_free(maps.numbers(table)):
        table = maps.tie_along(table, [0], ledger, call.where)
    labels: Any = maps.line(table, -1)
    ledger.shifted.append(labels)
    return maps.broadcast(labels, 1, call.out.shape)


def _last(call: Call, ledger: Ledger) -> Any:
    """Channels lie along the last dimension, however places change; four times in quarters."""
    labels: Any = maps.line(call.labels[0], -1)
    times = call.out.shape[-1] // len(labels)
    return maps.broadcast(np.tile(labels, times), -1, call.out.shape)


def _same(call: Call, ledger: Ledger) -> Any:
    return call.labels[0]


STEPS: dict[Callable[..., Any], Rule] = {
    **dict.fromkeys([windows, unwindowed, quarters], _last),
    heads_of: _split,
    biases: _looked_up,
    masked: _same,
}
PLAIN: dict[type[nn.Module], Callable[..., Any]] = {
    swin_transformer.ShiftedWindowAttention: _attention,
    swin_transformer.ShiftedWindowAttentionV2: _attention,
    swin_transformer.PatchMerging: _merging,
    swin_transformer.PatchMergingV2: _merging_v2,
}
