"""Layers with fewer channels, or with the same ones set to zero."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from razorlite.core.errors import SubnetError
from razorlite.prune._norms import KeptNorm
from razorlite.trace import (
    ChannelGraph,
    bias_of,
    is_matrix,
    set_attribute,
    update_widths,
    weight_of,
)

Mask = NDArray[np.bool_]


@dataclass
class Sides:
    """Which channels stay on both sides of one layer, or along one dimension of a bare tensor.

    Attributes:
        outputs: of what it makes.
        inputs: of what it reads; None if it has one side.
        bare: owner, name and dimension of a bare tensor, or place of an attribute.
        counted: whether it is an attribute that counts the channels.
        normed: whether it is a norm whose statistics are those of the channels that stay.
    """

    outputs: Mask
    inputs: Mask | None = None
    bare: tuple[str, str, int] | None = None
    counted: bool = False
    normed: bool = False

    @property
    def whole(self) -> bool:
        return bool(self.outputs.all()) and (self.inputs is None or bool(self.inputs.all()))


def sides_of(graph: ChannelGraph, kept: Mapping[str, Mask]) -> dict[str, Sides]:
    """Return what stays of each layer and bare tensor, by their keys.

    Args:
        graph: of the model.
        kept: for each group's name a (size,) mask of its units.

    Raises:
        SubnetError: a layer would have no channel left; names it.
    """
    sides: dict[str, dict[str, Mask]] = {}
    bare: dict[str, tuple[str, str, int]] = {}
    normed: set[str] = set()
    counted: set[str] = set()
    for group in graph.groups:
        for member in group.members:
            index = np.asarray(member.index)
            stays = np.append(kept[group.name], True)[index]
            side = sides.setdefault(member.key, {})
            if member.normed:
                normed.add(member.key)
            if member.counted:
                counted.add(member.key)
            if member.bare:
                bare[member.key] = (member.module, *member.tensors[0])
            side[member.side] = side.get(member.side, np.ones(len(index), dtype=bool)) & stays
    for path, side in sides.items():
        for name, stays in side.items():
            if not stays.any():
                raise SubnetError(
                    f"the subnet leaves layer {path!r} no channels ({name}); keep at least one"
                )
    return {
        path: Sides(side["out"], side.get("in"), bare.get(path), path in counted, path in normed)
        for path, side in sides.items()
    }


def cut_layers(model: nn.Module, sides: Mapping[str, Sides]) -> None:
    """Give the layers of a model only the channels that stay."""
    for path, side in sides.items():
        if side.counted and side.bare is not None:
            path, name, place = side.bare
            set_attribute(model.get_submodule(path), name, place, int(side.outputs.sum()))
        elif side.bare is not None and not side.whole:
            _slim_tensor(model, side.outputs, *side.bare)
        elif not side.whole:
            _slim_layer(model.get_submodule(path), side)
    update_widths(model)
    model.zero_grad(set_to_none=True)


@torch.no_grad()
def mask_layers(model: nn.Module, sides: Mapping[str, Sides]) -> None:
    """Set all weights of a model that make or read a dropped channel to zero.

    Norms over the channels get hooks by which they see the other channels alone.
    """
    for path, side in sides.items():
        if side.counted:
            continue
        if side.bare is not None:
            owner, name, dim = side.bare
            tensor = getattr(model.get_submodule(owner), name)
            tensor.movedim(dim, 0)[torch.from_numpy(~side.outputs)] = 0
        else:
            _mask_layer(model.get_submodule(path), side)


def _slim_tensor(model: nn.Module, stays: Mask, owner: str, name: str, dim: int) -> None:
    _cut(model.get_submodule(owner), name, lambda x: x.index_select(dim, _places(stays, x)))


def _slim_layer(layer: Any, side: Sides) -> None:
    if isinstance(layer, nn.MultiheadAttention):
        _slim_heads(layer, side)
        return
    if not is_matrix(layer):
        _slim_norm(layer, side.outputs)
        return
    inputs = np.ones(_inputs_of(layer), dtype=bool) if side.inputs is None else side.inputs
    groups = getattr(layer, "groups", 1)
    in_rows, out_rows = inputs.reshape(groups, -1), side.outputs.reshape(groups, -1)
    alive = np.flatnonzero(out_rows.any(1))
    assert (in_rows[alive] == in_rows[alive[0]]).all()
    assert (out_rows[alive].sum(1) == out_rows[alive[0]].sum()).all()
    if getattr(layer, "transposed", False):
        rows, columns = inputs, out_rows[alive[0]]
    else:
        rows, columns = side.outputs, in_rows[alive[0]]
    _cut(layer, "weight", lambda w: w[_places(rows, w)][:, _places(columns, w)])
    _cut(layer, "bias", lambda b: b[_places(side.outputs, b)])
    _rename(layer, int(inputs.sum()), int(side.outputs.sum()), len(alive))


def _slim_norm(layer: Any, outputs: Mask) -> None:
    count = int(outputs.sum())
    for name in ("weight", "bias", "running_mean", "running_var"):
        _cut(layer, name, lambda x: x[_places(outputs, x)])
    if hasattr(layer, "normalized_shape"):
        layer.normalized_shape = (count, *layer.normalized_shape[1:])
    if isinstance(layer, nn.GroupNorm):
        layer.num_groups = max(1, layer.num_groups * count // layer.num_channels)
    for name in ("num_features", "num_channels", "num_parameters"):
        if hasattr(layer, name):
            setattr(layer, name, count)


def _slim_heads(layer: nn.MultiheadAttention, side: Sides) -> None:
    """Cut what is before the heads; the projection behind them is a layer of its own."""
    stays = np.ones(layer.embed_dim, dtype=bool) if side.inputs is None else side.inputs
    _cut(layer, "in_proj_weight", lambda w: w[_places(side.outputs, w)][:, _places(stays, w)])
    _cut(layer, "in_proj_bias", lambda b: b[_places(side.outputs, b)])
    layer.embed_dim = layer.kdim = layer.vdim = int(stays.sum())
    layer.num_heads = layer.embed_dim // layer.head_dim


def _inputs_of(layer: Any) -> int:
    if isinstance(layer, nn.MultiheadAttention):
        return int(layer.embed_dim)
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)


def _rename(layer: Any, inputs: int, outputs: int, groups: int) -> None:
    if isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = inputs, outputs
    else:
        layer.in_channels, layer.out_channels, layer.groups = inputs, outputs, groups


def _places(stays: Mask, like: Tensor) -> Tensor:
    return torch.from_numpy(np.flatnonzero(stays)).to(like.device)


def _cut(layer: nn.Module, name: str, take: Callable[[Tensor], Tensor]) -> None:
    """Replace a parameter or buffer by a part of it, of the same kind."""
    old = getattr(layer, name, None)
    if old is None:
        return
    new = take(old.detach()).clone(memory_format=_format(old))
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    setattr(layer, name, new)


def _format(x: Tensor) -> torch.memory_format:
    lasting = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
    if lasting is None or x.is_contiguous() or not x.is_contiguous(memory_format=lasting):
        return torch.contiguous_format
    return lasting


def _mask_layer(layer: Any, side: Sides) -> None:
    if side.normed:
        hook = KeptNorm(torch.from_numpy(side.outputs))
        layer.register_forward_hook(hook, with_kwargs=True)
    weight, bias = weight_of(layer), bias_of(layer)
    dropped = torch.from_numpy(~side.outputs)
    if weight is not None and is_matrix(layer):
        gone = torch.from_numpy(~_pairs(layer, side)).to(weight.device)
        weight.masked_fill_(gone.reshape(*weight.shape[:2], *[1] * (weight.dim() - 2)), 0)
    elif weight is not None:
        weight[dropped.to(weight.device)] = 0
    if bias is not None:
        bias[dropped.to(bias.device)] = 0


def _pairs(layer: Any, side: Sides) -> Mask:
    """Return which weights stay, in the order of the first two dimensions of the weight."""
    inputs = np.ones(_inputs_of(layer), dtype=bool) if side.inputs is None else side.inputs
    groups = getattr(layer, "groups", 1)
    in_rows, out_rows = inputs.reshape(groups, -1), side.outputs.reshape(groups, -1)
    stays = out_rows[:, :, None] & in_rows[:, None, :]
    return stays.transpose(0, 2, 1) if getattr(layer, "transposed", False) else stays
