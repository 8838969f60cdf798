"""Networks by name whose groups are found once for all tests."""

from functools import cache
from typing import Any

import pytest

from razorlite.prune import Channels
from razorlite.trace import ChannelGraph, channel_graph
from tests.trace.zoo import network

SHAPE = (64, 64)


def slow(*values: Any) -> Any:
    """Return parameters of a slow test, whose parts others of the same test check."""
    return pytest.param(*values, marks=pytest.mark.slow)


def channels_of(name: str) -> Channels:
    """Return the channels of a new network."""
    return Channels(network(name), SHAPE, graph=_graph(name))


@cache
def _graph(name: str) -> ChannelGraph:
    return channel_graph(network(name), SHAPE)
