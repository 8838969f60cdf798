"""From a model and a subnet to a smaller plain model, or to the same model with channels zeroed."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from razorlite.core.errors import SubnetError
from razorlite.core.registry import suggestion
from razorlite.prune._surgery import Mask, Sides, cut_layers, mask_layers, sides_of
from razorlite.prune.equivalence import check_outputs
from razorlite.space.subnet import Subnet
from razorlite.trace import (
    ChannelGraph,
    ChannelGroup,
    Side,
    channel_graph,
    check_channels,
    unit_numbers,
)


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
    name, everything stays. Slim and masked model are run on noise, in evaluation and in training
    mode, and compared.

    Args:
        model: the whole model, as the subnet was planned for.
        subnet: its `channels` name the units to keep in each group.
        shape: (height, width) in pixels of images that the model takes.
        leaves: module paths that are not looked into, as in planning.

    Raises:
        SubnetError: the subnet does not fit the model.
        ExportError: the model cannot be traced, would not fit together when slim, or would
            compute something else; names the first module where it does.
    """
    graph = channel_graph(model, shape, leaves=leaves)
    sides = sides_of(graph, kept_units(graph, subnet))
    slim = _cut(model, sides)
    check_channels(slim, _kept_numbers(graph, sides), graph.size, shape, leaves)
    check_outputs(model, sides, shape)
    return slim


def slim_weights(
    model: nn.Module,
    subnet: Subnet,
    *,
    shape: tuple[int, int] = (224, 224),
    leaves: Sequence[str] = (),
) -> dict[str, Tensor]:
    """Return the weights of the slim model by name, for a subnet that was planned for the model.

    Nothing is checked, as loading them into what `apply` gives does that. Arguments: as for
    `apply`.
    """
    graph = channel_graph(model, shape, leaves=leaves)
    return _cut(model, sides_of(graph, kept_units(graph, subnet))).state_dict()


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
    mask_layers(masked, sides_of(graph, kept_units(graph, subnet)))
    return masked


def _cut(model: nn.Module, sides: Mapping[str, Sides]) -> nn.Module:
    slim = copy.deepcopy(model)
    cut_layers(slim, sides)
    return slim


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


def _kept_numbers(
    graph: ChannelGraph, sides: Mapping[str, Sides]
) -> dict[str, dict[Side, NDArray[np.int64]]]:
    """Return the unit numbers of the channels that each side of each layer keeps."""
    kept: dict[str, dict[Side, NDArray[np.int64]]] = {}
    for path, numbers in unit_numbers(graph).items():
        kept[path] = {"out": numbers["out"][sides[path].outputs]}
        if "in" in numbers and sides[path].inputs is not None:
            kept[path]["in"] = numbers["in"][sides[path].inputs]
    return kept
