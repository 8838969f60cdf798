"""Rules for layers with parameters.

Grouped layers follow one idea: the slim layer must be an ordinary layer of the same kind whose
groups see the same channels as before.

- GroupNorm keeps or drops whole norm groups, so its statistics are those of the original.
- LayerNorm, RMSNorm and a GroupNorm of one group take their statistics from the channels that stay.
- A grouped convolution whose groups outnumber the channels in each (depth-wise ones above all)
  keeps or drops whole groups, inputs and outputs together.
- Any other grouped convolution keeps all its groups and the same places in each of them.
"""

import math
from typing import Any

import numpy as np
from torch import Tensor
from torchvision.models.convnext import LayerNorm2d

from razorlite.trace import maps
from razorlite.trace._move_rules import fixed, pointwise
from razorlite.trace.calls import Call
from razorlite.trace.ledger import Labels, Ledger


def conv(call: Call, ledger: Ledger) -> Tensor:
    """Convolution, plain, grouped, depth-wise or transposed."""
    module: Any = call.module
    x: Tensor = call.labels[0]
    dim = x.dim() - len(module.kernel_size) - 1
    inputs = incoming(call, ledger, x, dim)
    outputs = ledger.produce(call.path, module.out_channels)
    if module.groups > 1:
        _group(call, ledger, inputs, outputs)
    transposed = getattr(module, "transposed", False)
    spatial = call.args[0].shape if transposed else call.out.shape
    others = math.prod(spatial) // spatial[dim]
    ledger.charge(call.path, others * math.prod(module.kernel_size))
    return maps.broadcast(outputs, dim, call.out.shape)


def deformable(call: Call, ledger: Ledger) -> Tensor:
    """Deformable convolution: what says where it looks, and how much that counts, stays."""
    x, *others = call.maps()
    for other in others:
        ledger.fix(maps.numbers(other), f"offsets or mask of {call.where}")
    module: Any = call.module
    offset = call.argument(1, "offset")
    parts = offset.shape[1] // (2 * math.prod(module.kernel_size))
    labels = maps.line(x, 1)
    if parts > 1 and labels is not None:
        ledger.tie(labels.reshape(parts, -1).T, call.where)
    return conv(call, ledger)


def linear(call: Call, ledger: Ledger) -> Tensor:
    """Linear layer on the last dimension."""
    module: Any = call.module
    x: Tensor = call.labels[0]
    incoming(call, ledger, x, -1)
    outputs = ledger.produce(call.path, module.out_features)
    ledger.charge(call.path, math.prod(call.out.shape[:-1]))
    return maps.broadcast(outputs, -1, call.out.shape)


def norm(call: Call, ledger: Ledger) -> Tensor:
    """Batch and instance norms: one parameter per channel."""
    x: Tensor = call.labels[0]
    labels = maps.line(x, 1)
    if labels is None:
        unknown: Tensor = fixed(call, ledger)
        return unknown
    ledger.passing(call.path, labels)
    if not _is_zeroed(call):
        ledger.shifted.append(labels)
    return x


def _is_zeroed(call: Call) -> bool:
    """Tell whether a layer's own weights make its result zero where these are zero."""
    of_torch = call.as_function or type(call.module).__module__.startswith("torch.nn")
    weights = [getattr(call.module, name, None) is not None for name in ("weight", "bias")]
    return call.name.lower() == "prelu" or (of_torch and all(weights))


def group_norm(call: Call, ledger: Ledger) -> Tensor:
    """Group norm: whole norm groups stay or go."""
    module: Any = call.module
    groups = call.argument(1, "num_groups") if call.as_function else module.num_groups
    if groups == 1:
        return _normed(call, ledger, 1)
    x = norm(call, ledger)
    labels = maps.line(x, 1)
    if labels is not None:
        ledger.tie(labels.reshape(groups, -1), call.where)
    return maps.rooted(x, ledger)


def layer_norm(call: Call, ledger: Ledger) -> Tensor:
    """Layer norm over the channels: what stays is normalised by its own statistics."""
    module: Any = call.module
    shape = call.argument(1, "normalized_shape") if call.as_function else module.normalized_shape
    planar = isinstance(module, LayerNorm2d) and not call.as_function
    return _normed(call, ledger, 1 if planar else -len(shape))


def _normed(call: Call, ledger: Ledger, dim: int) -> Tensor:
    """Note a norm over the channels along a dimension."""
    x: Tensor = call.labels[0]
    if dim < 0 and not {x.dim() - 1 - d for d in range(-dim)} & set(maps.varying(x)):
        ledger.shifted.append(maps.numbers(x))
        return x  # channels lie along other dimensions
    labels = maps.line(x, dim)
    if labels is None:
        unknown: Tensor = fixed(call, ledger)
        return unknown
    ledger.passing(call.path, labels)
    ledger.normed.add(call.path)
    return x


def prelu(call: Call, ledger: Ledger) -> Tensor:
    """PReLU: a slope for all channels, or one for each."""
    module: Any = call.module
    rule = pointwise if module.weight.numel() == 1 else norm
    result: Tensor = rule(call, ledger)
    return result


def incoming(call: Call, ledger: Ledger, x: Tensor, dim: int) -> Labels:
    """Note what a layer reads along one dimension of a (…, D, …) map; return its (D,) labels."""
    others = [d for d in maps.varying(x) if d != dim % x.dim()]
    if others and ledger.is_free(maps.numbers(x)):
        x = maps.tie_along(x, others, ledger, call.where)
    labels = maps.line(x, dim)
    if labels is None:
        ledger.fix(maps.numbers(x), f"mixed with another dimension at {call.where}")
        labels = np.full(x.shape[dim], -1)
    ledger.consume(call.path, labels)
    return labels


def _group(call: Call, ledger: Ledger, inputs: Labels, outputs: Labels) -> None:
    groups = int(call.module.groups)  # type: ignore[union-attr,arg-type]
    rows, out_rows = inputs.reshape(groups, -1), outputs.reshape(groups, -1)
    if groups >= rows.shape[1]:
        if (inputs >= 0).all():
            ledger.whole.add(call.path)
        ledger.tie(np.concatenate([rows, out_rows], axis=1), call.where)
    else:
        ledger.tie(rows.T, call.where)
        ledger.tie(out_rows.T, call.where)
