"""Rules for layers with parameters.

Grouped layers follow one idea: the slim layer must be an ordinary layer of the same kind whose
groups see the same channels as before.

- GroupNorm keeps or drops whole norm groups, so its statistics are those of the original.
- LayerNorm takes its statistics from the channels that stay.
- A grouped convolution whose groups outnumber the channels in each (depth-wise ones above all)
  keeps or drops whole groups, inputs and outputs together.
- Any other grouped convolution keeps all its groups and the same places in each of them.
"""

import math
from typing import Any

import numpy as np
from torch import Tensor, nn
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
    spatial = call.args[0].shape if module.transposed else call.out.shape
    others = math.prod(spatial) // spatial[dim]
    ledger.charge(call.path, others * math.prod(module.kernel_size))
    return maps.broadcast(outputs, dim, call.out.shape)


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
    ledger.shifted.append(labels)
    return x


def group_norm(call: Call, ledger: Ledger) -> Tensor:
    """Group norm: whole norm groups stay or go."""
    module: Any = call.module
    x = norm(call, ledger)
    labels = maps.line(x, 1)
    if labels is not None:
        ledger.tie(labels.reshape(module.num_groups, -1), call.where)
    return maps.rooted(x, ledger)


def layer_norm(call: Call, ledger: Ledger) -> Tensor:
    """Layer norm over the channels: what stays is normalised by its own statistics."""
    module: Any = call.module
    x: Tensor = call.labels[0]
    labels = maps.line(x, norm_dim(module))
    if labels is None or len(module.normalized_shape) > 1:
        unknown: Tensor = fixed(call, ledger)
        return unknown
    ledger.passing(call.path, labels)
    return x


def norm_dim(module: nn.LayerNorm) -> int:
    """Return the dimension of the channels that a layer norm is over."""
    return 1 if isinstance(module, LayerNorm2d) else -1


def prelu(call: Call, ledger: Ledger) -> Tensor:
    """PReLU: a slope for all channels, or one for each."""
    module: Any = call.module
    rule = pointwise if module.num_parameters == 1 else norm
    result: Tensor = rule(call, ledger)
    return result


def incoming(call: Call, ledger: Ledger, x: Tensor, dim: int) -> Labels:
    """Note what a layer reads along one dimension of a (…, D, …) map; return its (D,) labels."""
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
