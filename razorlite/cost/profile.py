"""The familiar profile of thop, to set beside the exact count, and where it comes from."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from razorlite.cost.count import Cost, count, first_paths
from razorlite.structures import example_inputs


@dataclass(frozen=True)
class ThopProfile:
    """What thop says, and why it says other than the exact count.

    Attributes:
        macs: multiply-accumulates by thop's rules.
        params: parameters by thop's rules.
        reasons: what thop counts more (+) or less (-) than `count`, a clause each; together they
            are the whole difference in `macs`.
    """

    macs: int
    params: int
    reasons: tuple[str, ...] = ()


def thop_profile(
    model: nn.Module, shape: tuple[int, int] = (224, 224), exact: Cost | None = None
) -> ThopProfile:
    """Return thop's counts for one sample.

    For comparison only; budgets use `count`. Works on a copy, as thop leaves buffers behind.

    Args:
        model: takes (1, 3, H, W) images, or has `example`.
        shape: height and width in pixels.
        exact: what `count` says, if it is known.
    """
    import thop

    exact = exact or count(model, shape)
    twin = copy.deepcopy(model).eval()
    inputs = (example_inputs(twin, shape),)
    macs, params, layers = thop.profile(twin, inputs, verbose=False, ret_layer_info=True)
    reasons = _reasons(exact, int(macs), dict(_leaves(layers)), first_paths(model))
    return ThopProfile(int(macs), int(params), reasons)


def _reasons(
    exact: Cost, macs: int, theirs: Mapping[str, int], first: Mapping[str, str]
) -> tuple[str, ...]:
    shared = dict.fromkeys(first[name] for name in theirs if first[name] != name)
    excess = {name: -exact.modules[name].macs for name in {first[n]: None for n in theirs}}
    for name, ops in theirs.items():
        excess[first[name]] += ops
    again = {name: excess.pop(name) for name in shared}
    norms = sum(ops for name, ops in excess.items() if not exact.modules[name].macs)
    other = {n: ops for n, ops in excess.items() if ops and exact.modules[n].macs}
    seen = sum(again.values()) + norms + sum(other.values())
    clauses = {
        f"layers shared by several places, counted repeatedly ({_few(again)})": sum(again.values()),
        "norms and other layers that multiply no matrices": norms,
        f"layers counted otherwise ({_few(other)})": sum(other.values()),
        "functional calls and attention, which it does not see": macs - exact.macs - seen,
    }
    return tuple(f"{value:+,} for {text}" for text, value in clauses.items() if value)


def _leaves(layers: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    """Yield path and operations of each layer that thop has counted by itself."""
    for name, (ops, _, inner) in layers.items():
        if inner:
            yield from _leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", int(ops)


def _few(names: Mapping[str, int]) -> str:
    return ", ".join(list(names)[:2]) + (", …" if len(names) > 2 else "")
