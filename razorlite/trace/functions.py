"""Layers that a forward calls as functions: `F.batch_norm(x, …, self.weight, self.bias)`.

Subclasses of torch's layers and layers of a user's own do so. Where all the tensors of such a call
belong to one module, under their usual names, the module is the layer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

_NORM, _AFFINE = ("running_mean", "running_var", "weight", "bias"), ("", "weight", "bias")
_CONVS = {f"conv{kind}{n}d": ("weight", "bias") for kind in ("", "_transpose") for n in (1, 2, 3)}
_NAMES: dict[str, tuple[str, ...]] = {
    **_CONVS,
    "batch_norm": _NORM,
    "instance_norm": _NORM,
    "layer_norm": _AFFINE,
    "group_norm": _AFFINE,
    "rms_norm": ("", "weight"),
    "linear": ("weight", "bias"),
    "deform_conv2d": ("", "weight", "bias"),
    "prelu": ("weight",),
}  # of each function, the names of its arguments after the first, as modules call their tensors
_MATRICES: dict[str, type[nn.Module]] = {
    **dict.fromkeys([*_CONVS, "deform_conv2d"], _ConvNd),
    "linear": nn.Linear,
}
NORMS = ("batch_norm", "instance_norm", "layer_norm", "group_norm", "rms_norm")


@dataclass(frozen=True)
class Owner:
    """What a tensor is of: the path of its module, the module, and the tensor's name there."""

    path: str
    module: nn.Module
    name: str


def owners(model: nn.Module, is_leaf: Callable[[nn.Module, str], bool]) -> dict[int, Owner]:
    """Return whose each tensor is, by their ids; not those of leaves, nor those of two modules."""
    found: dict[int, list[Owner]] = {}
    for path, module in model.named_modules():
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None and path:
                found.setdefault(id(tensor), []).append(Owner(path, module, name))
    return {
        number: of[0]
        for number, of in found.items()
        if len(of) == 1 and not is_leaf(of[0].module, of[0].path)
    }


def layer_of(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], known: Mapping[int, Owner]
) -> Owner | None:
    """Return the owner of a function's weights where it is one layer; else None.

    Args:
        name: of the function.
        args: its positional arguments.
        kwargs: its keyword arguments.
        known: owners of tensors.
    """
    names = _NAMES.get(name)
    if names is None:
        return None
    given = {**dict(zip(names, args[1:], strict=False)), **kwargs}
    tensors = {own: given[own] for own in names if own and given.get(own) is not None}
    found = [known.get(id(tensor)) for tensor in tensors.values()]
    first = found[0] if found else None
    if first is None or not isinstance(first.module, _MATRICES.get(name, nn.Module)):
        return None
    pairs = zip(tensors, found, strict=True)
    whole = all(of is not None and (of.path, of.name) == (first.path, own) for own, of in pairs)
    return first if whole else None
