"""Parameters and buffers that a forward uses itself: layer scales, position embeddings, gates.

Each element has a number of its own. Where the tensor meets channels, its elements along these are
tied to them, and what differs along other dimensions is tied together.
"""

from collections.abc import Callable

import numpy as np
from torch import Tensor, nn

from razorlite.trace.groups import Side
from razorlite.trace.ledger import Labels

_MANY = 1_000_000  # elements; larger tensors are not followed
_LISTS = (nn.ParameterList, nn.ParameterDict)
_NAMES = ("weight", "bias", "running_mean", "running_var", "in_proj_weight", "in_proj_bias")

IsLeaf = Callable[[nn.Module, str], bool]


def bare_tensors(model: nn.Module, is_leaf: IsLeaf) -> dict[int, str]:
    """Return the names of all tensors that no layer uses, by their ids.

    Args:
        model: owns them.
        is_leaf: tells of a module and its path whether it is taken as a whole.
    """
    names: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        layer = is_leaf(module, path) and not isinstance(module, _LISTS)
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None:
                full = ".".join(filter(None, [path, name]))
                names.setdefault(id(tensor), []).append("" if layer or _is_odd(tensor) else full)
    return {number: found[0] for number, found in names.items() if len(found) == 1 and found[0]}


def _is_odd(tensor: Tensor) -> bool:
    return not 1 < tensor.numel() <= _MANY or not tensor.is_floating_point()


def channel_dim(labels: Labels) -> int | None:
    """Return the one dimension along which rooted numbers of elements change, if there is one."""
    changing = [
        dim for dim in range(labels.ndim) if (labels != np.take(labels, [0], axis=dim)).any()
    ]
    return changing[0] if len(changing) == 1 else None


def weight_of(layer: nn.Module) -> Tensor | None:
    """Return the (outputs, inputs, …) or per-channel weight of a layer; None if it has none."""
    name = "in_proj_weight" if isinstance(layer, nn.MultiheadAttention) else "weight"
    return getattr(layer, name, None)


def bias_of(layer: nn.Module) -> Tensor | None:
    """Return the (outputs,) bias of a layer; None if it has none."""
    name = "in_proj_bias" if isinstance(layer, nn.MultiheadAttention) else "bias"
    return getattr(layer, name, None)


def is_matrix(layer: nn.Module) -> bool:
    """Return whether the weight of a layer has outputs and inputs, unlike that of a norm."""
    weight = weight_of(layer)
    return weight is not None and weight.dim() > 1 and not hasattr(layer, "normalized_shape")


def side_tensors(layer: nn.Module, side: Side) -> tuple[tuple[str, int], ...]:
    """Return the tensors of one side of a layer, and where its channels lie in each."""
    tensors = {**layer._parameters, **layer._buffers}
    found = {name: x for name in _NAMES if (x := tensors.get(name)) is not None and x.dim() > 0}
    weight = weight_of(layer)
    if not is_matrix(layer):
        return tuple((name, 0) for name in found)
    own = next(name for name, x in found.items() if x is weight)
    transposed = bool(getattr(layer, "transposed", False))
    first = (side == "out") != transposed
    rest = [(name, 0) for name in found if name != own] if side == "out" else []
    return ((own, 0 if first else 1), *rest)
