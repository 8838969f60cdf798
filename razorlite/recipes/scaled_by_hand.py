"""The same detector scaled by hand: narrower everywhere, or at a lower resolution."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from razorlite.core.config import Config
from razorlite.core.errors import BudgetError, RazorliteError
from razorlite.cost import Limit, count
from razorlite.prune import Channels, L1Importance
from razorlite.space import Subnet

_STEP = 32  # pixels that heights and widths are multiples of
_PARTS = ("train", "val", "test", "search")


@dataclass(frozen=True)
class Scaled:
    """A detector scaled by hand.

    Attributes:
        name: what was done.
        subnet: of the largest path: the channels that are kept.
        cost: MACs and parameters, counted.
        overrides: what the configuration needs besides.
        weights: of the whole model, as much of it as is left; empty where all of it is.
    """

    name: str
    subnet: Subnet
    cost: Mapping[str, int]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)


def narrower(whole: nn.Module, largest: Subnet, shape: tuple[int, int], macs: float) -> Scaled:
    """Return a model with the same share of each group's channels, within a budget.

    Channels of the largest absolute weights are kept, so that inherited weights count.

    Args:
        whole: the largest path, exported.
        largest: its choices.
        shape: height and width in pixels.
        macs: the most allowed.

    Raises:
        BudgetError: widths alone cannot meet the budget.
        ExportError: the model cannot be traced.
    """
    channels = Channels(whole, shape)
    scores = L1Importance()(whole, channels.graph.prunable)
    plan = channels.plan(scores, [Limit("macs", high=macs)], allocation="uniform")
    slim = channels.cut(plan)
    share = sum(map(len, plan.channels.values())) / channels.graph.size
    return Scaled(
        name=f"by hand: {share:.0%} of the channels",
        subnet=replace(plan, choices=largest.choices, fingerprint=largest.fingerprint),
        cost=channels.cost_of(slim),
        weights={name: tensor.cpu() for name, tensor in slim.state_dict().items()},
    )


def coarser(
    whole: nn.Module, largest: Subnet, config: Config, shape: tuple[int, int], macs: float
) -> Scaled:
    """Return the whole model at the highest resolution that a budget allows.

    Args:
        whole: the largest path, exported.
        largest: its choices.
        config: whose transforms are scaled.
        shape: height and width in pixels that costs are stated for.
        macs: the most allowed.

    Raises:
        BudgetError: no resolution meets the budget.
    """
    for size in _smaller(shape):
        counted = count(whole, size)
        if counted.macs <= macs:
            cost = {"macs": counted.macs, "params": counted.params}
            overrides = at_resolution(config, shape, size)
            return Scaled(f"by hand: {size[0]} x {size[1]} pixels", largest, cost, overrides)
    raise BudgetError(f"no resolution below {shape[0]} x {shape[1]} meets {macs:.0f} MACs")


def _smaller(shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield smaller sizes of about the same ratio, in steps of the longer side."""
    long = max(shape)
    for side in range((long - 1) // _STEP * _STEP, 0, -_STEP):
        height, width = (max(_STEP, round(n * side / long / _STEP) * _STEP) for n in shape)
        yield height, width


def at_resolution(config: Config, shape: tuple[int, int], size: tuple[int, int]) -> dict[str, Any]:
    """Return overrides under which all images of a configuration are smaller.

    Sizes in its transforms shrink in proportion; a split without any gets a `Resize`.

    Args:
        config: a checked one.
        shape: height and width in pixels as it is.
        size: height and width in pixels as it shall be.
    """
    both = (size[0] / shape[0], size[1] / shape[1])
    short, long = (both[shape.index(side(shape))] for side in (min, max))
    factors = {"size": both, "short": (short,), "long": (long,)}
    changed: dict[str, Any] = {"shape": list(size)}
    for part in _PARTS:
        if config.get(f"data.{part}") is not None:
            blocks = config.get(f"data.{part}.transforms") or []
            smaller = [_scaled(block, factors) for block in blocks]
            if smaller == blocks:
                smaller = [*blocks, {"type": "Resize", "size": list(size), "keep_ratio": True}]
            changed[f"data.{part}.transforms"] = smaller
    return changed


def _scaled(tree: Any, factors: Mapping[str, tuple[float, ...]], key: str = "") -> Any:
    """Return a transform's block with the sizes in it multiplied.

    Args:
        tree: plain values.
        factors: name of an entry to the factors of its numbers; the last one holds for all others.
        key: whose value the tree is.
    """
    if isinstance(tree, dict):
        return {name: _scaled(value, factors, name) for name, value in tree.items()}
    if isinstance(tree, list) and key in factors:
        own = factors[key]
        each = [{key: own[min(i, len(own) - 1) :]} for i in range(len(tree))]
        return [_scaled(value, each[i], key) for i, value in enumerate(tree)]
    if isinstance(tree, list):
        return [_scaled(value, factors) for value in tree]
    if key in factors and isinstance(tree, int) and not isinstance(tree, bool):
        return max(1, round(tree * factors[key][0]))
    return tree


def scaled_by_hand(
    whole: nn.Module, largest: Subnet, config: Config, shape: tuple[int, int], macs: float
) -> tuple[list[Scaled], list[str]]:
    """Return the largest path scaled by hand in each way, and why a way is left out.

    Arguments: as for `coarser`.
    """
    ways: dict[str, Callable[[], Scaled]] = {
        "narrower": lambda: narrower(whole, largest, shape, macs),
        "at a lower resolution": lambda: coarser(whole, largest, config, shape, macs),
    }
    found, left_out = [], []
    for name, way in ways.items():
        try:
            found.append(way())
        except Exception as error:  # a model of one's own may take other inputs than images
            what = "" if isinstance(error, RazorliteError) else f"{type(error).__name__}: "
            left_out.append(f"{name}: {what}{' '.join(str(error).split())}")
    return found, left_out
