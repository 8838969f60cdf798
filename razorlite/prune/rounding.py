"""Which multiples of channels a device computes well with, found by timing a model's layers."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count
from razorlite.cost import Timer
from razorlite.prune.layer_calls import (
    Layer,
    Shape,
    geometry,
    layer_calls,
    noise,
    with_channels,
    with_widths,
)
from razorlite.prune.layer_times import ROUNDS

RoundTo = Count | Literal["auto"]
STEPS = (1, 4, 8, 16, 32)
_LAYERS = 3  # kinds of layer that are timed, those that compute most
_ENOUGH = 1.1  # times what a multiply-accumulate takes in multiples of the coarsest step


@dataclass(frozen=True)
class Rounding:
    """A number of channels that kept ones are a multiple of, and why.

    Attributes:
        channels: the number.
        per_mac: for each of `STEPS` the time that a multiply-accumulate takes at an odd multiple
            of it, by that at a multiple of the coarsest.
        layers: how many kinds of layer were timed.
    """

    channels: int
    per_mac: Mapping[int, float]
    layers: int

    @classmethod
    def of(cls, per_mac: Mapping[int, float], layers: int) -> "Rounding":
        """Take the finest step that costs little more than the best one."""
        most = _ENOUGH * min(per_mac.values())
        return cls(min(step for step in per_mac if per_mac[step] <= most), per_mac, layers)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, with the reason in words."""
        per_mac = {str(step): ratio for step, ratio in self.per_mac.items()}
        return {"channels": self.channels, "per_mac": per_mac, "why": str(self)}

    def __str__(self) -> str:
        own = self.channels
        finer = [f"{self.per_mac[n]:.2f} at {n}" for n in self.per_mac if n < own][::-1]
        text = (
            f"multiples of {own}: {self.per_mac[own]:.2f} of the time a MAC takes at {max(STEPS)}"
        )
        return ", ".join([text, *finer])


def measured_rounding(model: nn.Module, example: Any, timer: Timer) -> Rounding:
    """Time the layers that compute most at about half their width, a little more or less of it.

    Args:
        model: run once on the example, to see what its layers get.
        example: as for `Channels`.
        timer: times the layers, in the runtime that is meant.

    Raises:
        ConfigError: the model has no convolution or linear layer to time.
    """
    layers = _main_layers(model, layer_calls(model, example))
    if not layers:
        raise ConfigError(
            "round_to: auto times convolutions and linear layers, and the model has none without "
            "groups; give a number"
        )
    runs: dict[str, Callable[[], float]] = {
        f"{number} {step}": timer.opened_layer(*_at(layer, shape, step))
        for number, (layer, shape) in enumerate(layers)
        for step in STEPS
    }
    times = timer.in_turns(runs, rounds=ROUNDS)
    ratios = [
        _per_mac(layer, {step: min(times[f"{number} {step}"]) for step in STEPS})
        for number, (layer, _) in enumerate(layers)
    ]
    return Rounding.of({n: round(median(r[n] for r in ratios), 3) for n in STEPS}, len(layers))


def _main_layers(
    model: nn.Module, calls: Mapping[str, Sequence[Shape]]
) -> list[tuple[Layer, Shape]]:
    """Return the kinds of layer that compute most, with the shape of what goes in."""
    macs: dict[Any, float] = {}
    found: dict[Any, tuple[Layer, Shape]] = {}
    for path, shapes in calls.items():
        layer: Any = model.get_submodule(path)
        if getattr(layer, "groups", 1) == 1:
            for shape in shapes:
                key = (type(layer).__name__, geometry(layer), shape[2:], _width(layer))
                macs[key] = macs.get(key, 0) + layer.weight.numel() * _cells(layer, shape)
                found[key] = (layer, shape)
    return [found[key] for key in sorted(macs, key=lambda key: -macs[key])[:_LAYERS]]


def _cells(layer: Layer, shape: Shape) -> float:
    """Return how often a layer's weights are used at inputs of a shape."""
    if isinstance(layer, nn.Linear):
        return math.prod(shape[:-1])
    return math.prod(shape[2:]) / math.prod(layer.stride)


def _at(layer: Layer, shape: Shape, step: int) -> tuple[Layer, Tensor]:
    """Return a layer whose widths are an odd multiple of a step, and what goes into it."""
    width = _base(layer) + step
    return with_widths(layer, width, width), noise(with_channels(layer, shape, width))


def _per_mac(layer: Layer, times: Mapping[int, float]) -> dict[int, float]:
    """Return times by the pairs of channels, as a multiple of that of the coarsest step."""
    base = _base(layer)
    rates = {step: time / (base + step) ** 2 for step, time in times.items()}
    return {step: rate / rates[max(STEPS)] for step, rate in rates.items()}


def _base(layer: Layer) -> int:
    """Return about half a layer's width, in multiples of the coarsest step.

    So a step from there leads to a multiple of that step, and of no coarser one.
    """
    coarsest = max(STEPS)
    return max(coarsest, _width(layer) // (2 * coarsest) * coarsest)


def _width(layer: Layer) -> int:
    return min(layer.weight.shape[:2])
