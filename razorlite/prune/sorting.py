"""Channels in the order of their importance; the model computes what it did."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from razorlite.trace import ChannelGroup, Member


@torch.no_grad()
def sort_channels(
    model: nn.Module, groups: Iterable[ChannelGroup], scores: Mapping[str, Tensor]
) -> None:
    """Put the units of groups in the order of their scores, the greatest first, in place.

    Units of different blocks of a group do not change places. What the model computes stays.
    Once-for-All, https://arxiv.org/abs/1908.09791, section 3.3.

    Args:
        model: its weights change places.
        groups: of its channels.
        scores: group's name to its (size,) scores.
    """
    for group in groups:
        order, moved = _order(group, scores[group.name]), set()
        for member in group.members:
            for tensor, dim in _tensors(model, member):
                if (id(tensor), dim) not in moved:  # two layers may share it
                    moved.add((id(tensor), dim))
                    _reorder(tensor, dim, _of_channels(member, order))


def _order(group: ChannelGroup, scores: Tensor) -> list[int]:
    """Return the unit that comes to the place of each."""
    order = list(range(group.size))
    for block in group.blocks:
        ranked = sorted(block.units, key=lambda unit: -float(scores[unit]))
        for place, unit in zip(block.units, ranked, strict=True):
            order[place] = unit
    return order


def _tensors(model: nn.Module, member: Member) -> list[tuple[Tensor, int]]:
    """Return the tensors of a member, each with the dimension that its channels lie along."""
    if member.counted:
        return []
    owner = model.get_submodule(member.module)
    return [(getattr(owner, name), dim) for name, dim in member.tensors]


def _of_channels(member: Member, order: list[int]) -> Tensor:
    """Return the channel of a member that comes to the place of each."""
    index = np.asarray(member.index)
    channels = np.arange(len(index))
    for place, unit in enumerate(order):
        channels[index == place] = np.flatnonzero(index == unit)
    return torch.from_numpy(channels)


def _reorder(tensor: Tensor, dim: int, channels: Tensor) -> None:
    """Let channels change places; a grouped convolution's inputs do so in all groups alike."""
    inside = tensor.shape[dim]
    numbers = (channels[:inside] % inside).to(tensor.device)
    tensor.copy_(tensor.index_select(dim, numbers))
