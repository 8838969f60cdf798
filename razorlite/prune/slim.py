"""From a model and a subnet to a smaller plain model, or to the same model with channels zeroed."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from razorlite.core.errors import SubnetError
from razorlite.core.registry import suggestion
from razorlite.space.subnet import Subnet
from razorlite.trace import (
    ChannelGraph,
    ChannelGroup,
    Side,
    channel_graph,
    check_channels,
    unit_numbers,
)

Mask = NDArray[np.bool_]


def apply(
    model: nn.Module,
    subnet: Subnet,
    *,
    shape: tuple[int, int] = (224, 224),
    leaves: Sequence[str] = (),
) -> nn.Module:
    """Return a smaller plain copy of the model: what the subnet drops is gone from every layer.

    Layers, names and weights are the model's own; channels that a convolution reads, its norms
    and the like shrink together. The model is not changed. Of a group that the subnet does not
    name, everything stays.

    Args:
        model: the whole model, as the subnet was planned for.
        subnet: its `channels` name the units to keep in each group.
        shape: (height, width) in pixels of images that the model takes.
        leaves: module paths that are not looked into, as in planning.

    Raises:
        SubnetError: the subnet does not fit the model.
        ExportError: the model cannot be traced, or would not fit together when slim.
    """
    graph = channel_graph(model, shape, leaves=leaves)
    slim = copy.deepcopy(model)
    sides = _sides(graph, kept_units(graph, subnet))
    for path, side in sides.items():
        if not side.whole:
            _slim_layer(slim.get_submodule(path), side)
    slim.zero_grad(set_to_none=True)
    check_channels(slim, _kept_numbers(graph, sides), graph.size, shape, leaves)
    return slim


def mask(
    model: nn.Module,
    subnet: Subnet,
    *,
    shape: tuple[int, int] = (224, 224),
    leaves: Sequence[str] = (),
) -> nn.Module:
    """Return a copy of the model with every weight that touches a dropped channel set to zero.

    These are the weights, biases and norm parameters that make the channel and the weights that
    read it. So a dropped channel has no influence, whatever activations make of it, and the copy
    computes what the slim model computes. Arguments, errors: as for `apply`.
    """
    graph = channel_graph(model, shape, leaves=leaves)
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for path, side in _sides(graph, kept_units(graph, subnet)).items():
            _mask_layer(masked.get_submodule(path), side)
    return masked


def compose(first: Subnet, second: Subnet) -> Subnet:
    """Return the subnet of the original model that pruning twice comes to.

    Args:
        first: of the original model.
        second: of the model that `apply(model, first)` gives.

    Raises:
        SubnetError: the second does not fit what the first keeps.
    """
    channels = dict(first.channels)
    for name, kept in second.channels.items():
        before = channels.get(name)
        if before is not None and kept and max(kept) >= len(before):
            raise SubnetError(
                f"group {name!r} keeps {len(before)} units at first; "
                f"cannot keep index {max(kept)} of them"
            )
        channels[name] = kept if before is None else tuple(before[i] for i in kept)
    return replace(second, channels=channels, origin={**second.origin, **first.origin})


def kept_units(graph: ChannelGraph, subnet: Subnet) -> dict[str, Mask]:
    """Return for each group's name a (size,) mask of the units that the subnet keeps.

    Raises:
        SubnetError: the subnet does not fit; one line names the group.
    """
    groups = {group.name: group for group in graph.groups}
    kept = {name: np.ones(group.size, dtype=bool) for name, group in groups.items()}
    for name, indices in subnet.channels.items():
        if name not in groups:
            raise SubnetError(
                f"the model has no channel group {name!r}{suggestion(name, groups)}; "
                "the subnet belongs to another model"
            )
        kept[name][:] = False
        kept[name][_checked(groups[name], indices)] = True
    made_for = subnet.origin.get("groups", graph.fingerprint)
    if made_for != graph.fingerprint:
        raise SubnetError(
            f"the subnet was made for other channel groups ({made_for}) than this model has "
            f"({graph.fingerprint}); use the model configuration that it was planned with"
        )
    return kept


def _checked(group: ChannelGroup, indices: Sequence[int]) -> list[int]:
    what = "channels" if set(group.channels) == {1} else "units"
    size = f"group {group.name!r} has {group.size} {what}"
    kept = list(indices)
    for i in kept:
        if not isinstance(i, int) or isinstance(i, bool) or not 0 <= i < group.size:
            raise SubnetError(f"{size}; cannot keep index {i}")
    if kept != sorted(set(kept)):
        raise SubnetError(f"{size}; the kept indices must rise, each once")
    if not kept:
        raise SubnetError(f"{size}; the subnet keeps none of them, keep at least one")
    if group.fixed and len(kept) < group.size:
        raise SubnetError(f"{size} and cannot shrink ({group.fixed}); keep all of it")
    return kept


@dataclass
class _Sides:
    """Which channels stay on both sides of one layer; `inputs` is None if it has one side."""

    outputs: Mask
    inputs: Mask | None = None

    @property
    def whole(self) -> bool:
        return bool(self.outputs.all()) and (self.inputs is None or bool(self.inputs.all()))


def _sides(graph: ChannelGraph, kept: Mapping[str, Mask]) -> dict[str, _Sides]:
    sides: dict[str, dict[str, Mask]] = {}
    for group in graph.groups:
        for member in group.members:
            index = np.asarray(member.index)
            stays = np.append(kept[group.name], True)[index]
            side = sides.setdefault(member.module, {})
            side[member.side] = side.get(member.side, np.ones(len(index), dtype=bool)) & stays
    for path, side in sides.items():
        for name, stays in side.items():
            if not stays.any():
                raise SubnetError(
                    f"the subnet leaves layer {path!r} no channels ({name}); keep at least one"
                )
    return {path: _Sides(side["out"], side.get("in")) for path, side in sides.items()}


def _kept_numbers(
    graph: ChannelGraph, sides: Mapping[str, _Sides]
) -> dict[str, dict[Side, NDArray[np.int64]]]:
    """Return the unit numbers of the channels that each side of each layer keeps."""
    kept: dict[str, dict[Side, NDArray[np.int64]]] = {}
    for path, numbers in unit_numbers(graph).items():
        kept[path] = {"out": numbers["out"][sides[path].outputs]}
        if "in" in numbers and sides[path].inputs is not None:
            kept[path]["in"] = numbers["in"][sides[path].inputs]
    return kept


def _slim_layer(layer: Any, side: _Sides) -> None:
    if getattr(layer, "weight", None) is None or layer.weight.dim() < 2:
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
    if isinstance(layer, nn.GroupNorm):
        layer.num_groups = layer.num_groups * count // layer.num_channels
    for name in ("num_features", "num_channels", "num_parameters"):
        if hasattr(layer, name):
            setattr(layer, name, count)


def _inputs_of(layer: Any) -> int:
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
    lasting = x.dim() == 4 and not x.is_contiguous()
    if lasting and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def _mask_layer(layer: Any, side: _Sides) -> None:
    weight = getattr(layer, "weight", None)
    dropped = torch.from_numpy(~side.outputs)
    if weight is not None and weight.dim() > 1:
        gone = torch.from_numpy(~_pairs(layer, side)).to(weight.device)
        weight.masked_fill_(gone.reshape(*weight.shape[:2], *[1] * (weight.dim() - 2)), 0)
    elif weight is not None:
        weight.masked_fill_(dropped.to(weight.device), 0)
    if getattr(layer, "bias", None) is not None:
        layer.bias.masked_fill_(dropped.to(layer.bias.device), 0)


def _pairs(layer: Any, side: _Sides) -> Mask:
    """Return which weights stay, in the order of the first two dimensions of the weight."""
    inputs = np.ones(_inputs_of(layer), dtype=bool) if side.inputs is None else side.inputs
    groups = getattr(layer, "groups", 1)
    in_rows, out_rows = inputs.reshape(groups, -1), side.outputs.reshape(groups, -1)
    stays = out_rows[:, :, None] & in_rows[:, None, :]
    return stays.transpose(0, 2, 1) if getattr(layer, "transposed", False) else stays
