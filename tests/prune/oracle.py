"""Channels set to zero by hand, tensor by tensor: what a slim model must compute."""

import copy

import numpy as np
import torch
from torch import nn

from razorlite.prune import Channels
from razorlite.space.subnet import Subnet


def third(channels: Channels, seed: int = 0) -> Subnet:
    """Keep about two thirds of the units of each group at random, at least one of each layer."""
    rng = np.random.default_rng(seed)
    kept = {}
    for group in channels.graph.prunable:
        stays = rng.random(group.size) > 1 / 3
        for member in group.members:
            units = np.unique([i for i in member.index if i >= 0])
            stays[rng.choice(units)] |= not stays[units].any()
        kept[group.name] = tuple(np.flatnonzero(stays).tolist())
    return Subnet(channels=kept)


@torch.no_grad()
def zeroed(channels: Channels, subnet: Subnet) -> nn.Module:
    """Return a copy whose readers have zeros where they read a dropped channel."""
    model = copy.deepcopy(channels.model)
    for group in channels.graph.prunable:
        kept = set(subnet.channels[group.name])
        for member in group.members:
            layer = model.get_submodule(member.module)
            if member.normed and isinstance(layer, nn.GroupNorm):
                layer.register_forward_hook(_planes_of(member, kept))
            elif isinstance(layer, nn.LayerNorm):
                layer.register_forward_hook(_norm_of(member, kept))
            elif member.side == "in":
                for channel, unit in enumerate(member.index):
                    if unit >= 0 and unit not in kept:
                        _forget(layer, channel)
    return model


def _norm_of(member, kept):
    """Return a hook that computes a layer norm by hand, over the channels that stay."""
    stays = [channel for channel, unit in enumerate(member.index) if unit in kept]

    def hook(layer, inputs, out):
        dim = 1 if type(layer).__name__ == "LayerNorm2d" else -1
        x = inputs[0].movedim(dim, -1)
        mean = sum(x[..., c] for c in stays) / len(stays)
        variance = sum((x[..., c] - mean) ** 2 for c in stays) / len(stays)
        given = torch.zeros_like(x)
        for c in stays:
            normed = (x[..., c] - mean) / (variance + layer.eps).sqrt()
            given[..., c] = normed * layer.weight[c] + layer.bias[c]
        return given.movedim(-1, dim)

    return hook


def _planes_of(member, kept):
    """Return a hook that computes a group norm of one group by hand, over what stays."""
    stays = [channel for channel, unit in enumerate(member.index) if unit in kept]

    def hook(layer, inputs, out):
        x, given = inputs[0], torch.zeros_like(inputs[0])
        for n in range(len(x)):
            values = torch.cat([x[n, c].flatten() for c in stays])
            scale = (((values - values.mean()) ** 2).mean() + layer.eps).sqrt()
            for c in stays:
                normed = (x[n, c] - values.mean()) / scale
                given[n, c] = normed * layer.weight[c] + layer.bias[c]
        return given

    return hook


def _forget(layer: nn.Module, channel: int) -> None:
    """Set the weights to zero by which a layer reads one channel."""
    attends = isinstance(layer, nn.MultiheadAttention)
    weight = layer.in_proj_weight if attends else layer.weight
    if getattr(layer, "transposed", False):
        weight[channel] = 0
    elif getattr(layer, "groups", 1) > 1:
        size = weight.shape[1]
        outputs = weight.shape[0] // layer.groups
        group, place = divmod(channel, size)
        weight[group * outputs : (group + 1) * outputs, place] = 0
    else:
        weight[:, channel] = 0
