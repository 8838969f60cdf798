"""Which channels must stay equal, by a model's graph or one watched run: channel groups as data."""

from razorlite.trace.channels import channel_graph, channel_groups
from razorlite.trace.groups import Block, ChannelGraph, ChannelGroup, Layer, Member, Side
from razorlite.trace.parameters import bias_of, weight_of
from razorlite.trace.verify import check_channels, unit_numbers
from razorlite.trace.widths import update_widths

__all__ = [
    "Block",
    "ChannelGraph",
    "ChannelGroup",
    "Layer",
    "Member",
    "Side",
    "bias_of",
    "channel_graph",
    "channel_groups",
    "check_channels",
    "unit_numbers",
    "update_widths",
    "weight_of",
]
