"""What a neck finds out about the maps it is given."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from razorlite.core.errors import ConfigError


def check_maps(
    neck: nn.Module, maps: Sequence[Tensor], convs: Sequence[Any], start_level: int = 0
) -> None:
    """Compare a backbone's maps with the convolutions that take them; tracing is let through.

    Args:
        neck: to name in the message.
        maps: (N, C_i, H_i, W_i), what the backbone gives.
        convs: `ConvModule`s of the maps from `start_level` on.
        start_level: first map that the neck uses.

    Raises:
        ConfigError: another number of maps, or other channels.
    """
    if torch.jit.is_tracing() or not isinstance(maps, (tuple, list)):  # type: ignore[attr-defined]
        return
    if not all(isinstance(x, Tensor) for x in maps):
        return
    got = [x.shape[1] for x in maps]
    expected = [*got[:start_level], *(conv.conv.in_channels for conv in convs)]
    if got != expected:
        raise ConfigError(
            f"{type(neck).__name__}.in_channels: it was built for maps of {expected} channels, but "
            f"the backbone gives {got}; set in_channels to these, or change backbone.out_indices"
        )
