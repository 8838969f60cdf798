"""The familiar profile of thop, to set beside the exact count."""

import copy
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class ThopProfile:
    """What thop says; it leaves out functional calls and attention, and counts norms.

    Attributes:
        macs: multiply-accumulates by thop's rules.
        params: parameters by thop's rules.
    """

    macs: int
    params: int


def thop_profile(model: nn.Module, shape: tuple[int, int] = (224, 224)) -> ThopProfile:
    """Return thop's figures for one (1, 3, H, W) image.

    For comparison only; budgets use `count`. Works on a copy, as thop leaves buffers behind.
    """
    import thop

    twin = copy.deepcopy(model).eval()
    device = next((p.device for p in twin.parameters()), torch.device("cpu"))
    macs, params = thop.profile(twin, (torch.zeros(1, 3, *shape, device=device),), verbose=False)
    return ThopProfile(int(macs), int(params))
