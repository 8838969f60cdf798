"""Which channels must stay equal, by a model's graph or one watched run: channel groups as data."""

from razorlite.trace._layer_rules import norm as per_channel
from razorlite.trace._move_rules import pointwise, spatial
from razorlite.trace.attributes import set_attribute
from razorlite.trace.blocks import residual_blocks
from razorlite.trace.calls import Call
from razorlite.trace.channels import channel_graph, channel_groups
from razorlite.trace.groups import Block, ChannelGraph, ChannelGroup, Layer, Member, Side
from razorlite.trace.ledger import Ledger
from razorlite.trace.parameters import bias_of, is_matrix, weight_of
from razorlite.trace.rules import rule
from razorlite.trace.verify import check_channels, unit_numbers
from razorlite.trace.widths import update_widths

__all__ = [
    "Block",
    "Call",
    "ChannelGraph",
    "ChannelGroup",
    "Layer",
    "Ledger",
    "Member",
    "Side",
    "bias_of",
    "channel_graph",
    "channel_groups",
    "check_channels",
    "is_matrix",
    "per_channel",
    "pointwise",
    "residual_blocks",
    "rule",
    "set_attribute",
    "spatial",
    "unit_numbers",
    "update_widths",
    "weight_of",
]
