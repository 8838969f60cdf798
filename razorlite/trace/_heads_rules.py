"""The rule for torch's own attention, `nn.MultiheadAttention`.

It takes its inner width for that of its inputs, so both shrink together: a head goes with as many
channels of the stream as it is wide, and every other head stays as wide as it was.
"""

import math
from typing import Any

import numpy as np
from torch import Tensor

from razorlite.trace import maps
from razorlite.trace._layer_rules import incoming
from razorlite.trace._move_rules import fixed
from razorlite.trace.calls import Call
from razorlite.trace.ledger import Labels, Ledger

_NAMES = ("query", "key", "value")


def heads(call: Call, ledger: Ledger) -> Any:
    """`nn.MultiheadAttention`: whole heads, each with its share of the stream's channels."""
    module: Any = call.module
    mask = call.argument(5, "attn_mask")
    if not module._qkv_same_embed_dim or module.bias_k is not None or module.add_zero_attn:
        return fixed(call, ledger, "keys and values of their own widths or biases in")
    if isinstance(mask, Tensor) and mask.dim() > 2:
        return fixed(call, ledger, "a mask for each head in")
    for other in call.maps()[3:]:
        ledger.fix(maps.numbers(other), f"mask of {call.where}")
    given = {**dict(zip(_NAMES, call.labels, strict=False)), **call.label_kwargs}
    streams = [incoming(call, ledger, given[name], -1) for name in _NAMES]
    made = ledger.produce(call.path, 3 * module.embed_dim).reshape(3, module.num_heads, -1)
    rows = [x.reshape(module.num_heads, -1) for x in (*made, streams[0])]
    ledger.tie(np.concatenate(rows, axis=1), call.where)
    return _results(call, ledger, made, streams[0])


def _results(call: Call, ledger: Ledger, made: Labels, stream: Labels) -> Any:
    """Note what the projection behind the heads reads and makes; return the maps of the results."""
    module: Any = call.module
    projection = f"{call.path}.out_proj"
    ledger.consume(projection, made[2].ravel())
    outputs = ledger.produce(projection, module.embed_dim)
    _charge(call, ledger, made, stream)
    attended, weights = call.out
    labels = maps.broadcast(outputs, -1, attended.shape)
    return labels, None if weights is None else maps.blank(weights.shape)


def _charge(call: Call, ledger: Ledger, made: Labels, stream: Labels) -> None:
    module: Any = call.module
    query, key = call.argument(0, "query"), call.argument(1, "key")
    queries, keys = (math.prod(x.shape[:-1]) for x in (query, key))
    batch = 1 if key.dim() < 3 else key.shape[0 if module.batch_first else 1]
    ledger.charge(f"{call.path}.out_proj", queries)
    ledger.multiply(made[0].ravel(), queries + 2 * keys, stream)
    ledger.multiply(made[0].ravel(), 2 * queries * (keys // batch))
