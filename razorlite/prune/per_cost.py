"""Scores divided by what a channel costs."""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from razorlite.prune.budget import LAYER_TIME
from razorlite.prune.channels import Channels

CostKind = Literal["none", "macs", "params", "memory", "latency"]
COST_KINDS: tuple[CostKind, ...] = get_args(CostKind)


def per_cost(
    scores: Mapping[str, Tensor],
    channels: Channels,
    kind: CostKind,
    kept: NDArray[np.int64] | None = None,
) -> dict[str, Tensor]:
    """Return scores of units, divided by what one unit of their block costs.

    Args:
        scores: for each prunable group (size,) numbers.
        channels: of the model; "latency" wants those of `Channels.timed`.
        kind: see `SlimCost.per_unit`; "none" leaves the scores as they are.
        kept: (D,) units that each block keeps; all by default.

    Group Fisher Pruning, https://arxiv.org/abs/2108.00708, section 3.3.
    """
    if kind == "none":
        return dict(scores)
    name = LAYER_TIME if kind == "latency" else kind
    costs = channels.cost.per_unit(name, channels.cost.sizes if kept is None else kept)
    costs = np.maximum(costs, 1.0)
    divided, number = {}, 0
    for group in channels.graph.prunable:
        own = scores[group.name].double().clone()
        for block in group.blocks:
            own[list(block.units)] /= torch.tensor(costs[number])
            number += 1
        divided[group.name] = own
    return divided
