"""The same detector scaled by hand: narrower everywhere, or at a lower resolution."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from torch import nn

from razorlite.core.config import Config
from razorlite.core.errors import BudgetError, RazorliteError
from razorlite.cost import Limit, count
from razorlite.prune import Channels, L1Importance, Paired, Stopwatch
from razorlite.prune.within_latency import LatencyFit
from razorlite.space import Subnet

_STEP = 32  # pixels that heights and widths are multiples of
_PARTS = ("train", "val", "test", "search")


class Allowance(Protocol):
    """What a detector scaled by hand may cost.

    Attributes:
        stopwatch: times it beside the whole model; None where nothing is measured.
    """

    @property
    def stopwatch(self) -> Stopwatch | None:
        """See above."""

    def widths(self, channels: Channels) -> Subnet:
        """Return the widest model with the same share of each group's channels.

        Raises:
            BudgetError: widths alone cannot meet it.
        """

    def allows(self, whole: nn.Module, size: tuple[int, int]) -> bool:
        """Return whether the whole model is cheap enough at a height and width in pixels."""


@dataclass(frozen=True)
class WithinMacs:
    """No more multiply-accumulates than so many; any number of channels may stay.

    Attributes:
        macs: the most allowed.
        stopwatch: there is none.
    """

    macs: float
    stopwatch: None = None

    def __str__(self) -> str:
        return f"{self.macs:.0f} MACs"

    def widths(self, channels: Channels) -> Subnet:
        """Return the widest model."""
        return _uniform(channels, [Limit("macs", high=self.macs)])

    def allows(self, whole: nn.Module, size: tuple[int, int]) -> bool:
        """Return whether a size is cheap enough."""
        return count(whole, size).macs <= self.macs


@dataclass(frozen=True)
class WithinTime:
    """No more than a share of the whole model's time, measured in turns with it.

    Numbers of channels are multiples of eight, which compute well.

    Attributes:
        share: the most allowed.
        stopwatch: of the whole model.
    """

    share: float
    stopwatch: Stopwatch

    def __str__(self) -> str:
        return f"{self.share:.1%} of the largest subnet's time"

    def widths(self, channels: Channels) -> Subnet:
        """Return the widest model."""
        most = self.share * self.stopwatch.whole_ms
        return LatencyFit(
            lambda limits: _uniform(channels, limits, round_to=8),
            channels.cut,
            limits=[],
            latency=Limit("latency_ms", high=most),
            whole=channels.cost.whole,
            stopwatch=self.stopwatch,
            by="macs",
        ).run()

    def allows(self, whole: nn.Module, size: tuple[int, int]) -> bool:
        """Return whether a size is cheap enough."""
        return self.stopwatch.resized(whole, size).share <= self.share


def _uniform(channels: Channels, limits: Sequence[Limit], round_to: int = 1) -> Subnet:
    """Return what keeps the same share of each group's channels, those of the largest weights."""
    scores = L1Importance()(channels.model, channels.graph.prunable)
    return channels.plan(scores, limits, round_to=round_to, allocation="uniform")


@dataclass(frozen=True)
class Scaled:
    """A detector scaled by hand.

    Attributes:
        name: what was done.
        subnet: of the largest path: the channels that are kept.
        cost: MACs and parameters, counted.
        overrides: what the configuration needs besides.
        weights: of the whole model, as much of it as is left; empty where all of it is.
        time: of one image, beside the whole model; None where it was not measured.
    """

    name: str
    subnet: Subnet
    cost: Mapping[str, int | float]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)
    time: Paired | None = None


def narrower(whole: nn.Module, largest: Subnet, shape: tuple[int, int], most: Allowance) -> Scaled:
    """Return a model with the same share of each group's channels, within a budget.

    Channels of the largest absolute weights are kept, so that inherited weights count.

    Args:
        whole: the largest path, exported.
        largest: its choices.
        shape: height and width in pixels.
        most: what it may cost.

    Raises:
        BudgetError: widths alone cannot meet the budget.
        ExportError: the model cannot be traced.
    """
    channels = Channels(whole, shape)
    plan = most.widths(channels)
    slim = channels.cut(plan)
    share = sum(map(len, plan.channels.values())) / channels.graph.size
    return Scaled(
        name=f"by hand: {share:.0%} of the channels",
        subnet=replace(plan, choices=largest.choices, fingerprint=largest.fingerprint),
        cost=channels.cost_of(slim),
        weights={name: tensor.cpu() for name, tensor in slim.state_dict().items()},
        time=most.stopwatch.beside(slim) if most.stopwatch else None,
    )


def coarser(
    whole: nn.Module, largest: Subnet, config: Config, shape: tuple[int, int], most: Allowance
) -> Scaled:
    """Return the whole model at the highest resolution that a budget allows.

    Args:
        whole: the largest path, exported.
        largest: its choices.
        config: whose transforms are scaled.
        shape: height and width in pixels that costs are stated for.
        most: what it may cost.

    Raises:
        BudgetError: no resolution meets the budget.
    """
    sizes = list(_smaller(shape))
    first = bisect_left(sizes, True, key=lambda size: most.allows(whole, size))
    if first == len(sizes):
        raise BudgetError(f"no resolution below {shape[0]} x {shape[1]} meets {most}")
    size = sizes[first]
    counted = count(whole, size)
    return Scaled(
        name=f"by hand: {size[0]} x {size[1]} pixels",
        subnet=largest,
        cost={"macs": counted.macs, "params": counted.params},
        overrides=at_resolution(config, shape, size),
        time=most.stopwatch.resized(whole, size) if most.stopwatch else None,
    )


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
    whole: nn.Module, largest: Subnet, config: Config, shape: tuple[int, int], most: Allowance
) -> tuple[list[Scaled], list[str]]:
    """Return the largest path scaled by hand in each way, and why a way is left out.

    Arguments: as for `coarser`.
    """
    ways: dict[str, Callable[[], Scaled]] = {
        "narrower": lambda: narrower(whole, largest, shape, most),
        "at a lower resolution": lambda: coarser(whole, largest, config, shape, most),
    }
    found, left_out = [], []
    for name, way in ways.items():
        try:
            found.append(way())
        except Exception as error:  # a model of one's own may take other inputs than images
            what = "" if isinstance(error, RazorliteError) else f"{type(error).__name__}: "
            left_out.append(f"{name}: {what}{' '.join(str(error).split())}")
    return found, left_out
