"""What a channel of each layer takes in milliseconds: fitted by timing each layer at two widths."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

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
from razorlite.trace import ChannelGraph
from razorlite.trace import Layer as Traced

ROUNDS = 7  # of which the quickest counts: what else runs can only slow a layer down
PICO = 1e9  # picoseconds of a millisecond: costs are whole numbers
_BLOCK = 16  # the half width is a multiple of it, where there are so many

Times = Mapping[str, tuple[int, int]]
_Key = tuple[Any, ...]


@dataclass(frozen=True)
class _Timed:
    """A layer at a width, on inputs of one shape."""

    layer: Layer
    shape: Shape
    inputs: int
    outputs: int

    @property
    def key(self) -> _Key:
        return (type(self.layer).__name__, geometry(self.layer), self.shape, self.outputs)


def layer_times(model: nn.Module, graph: ChannelGraph, example: Any, timer: Timer) -> Times:
    """Return what each layer takes as its channels go: it is timed whole, and at half its width.

    A layer takes `outputs * (output + inputs * pair)`: weights are read and maps are written.
    Layers with groups are timed whole, and all of their time goes with their outputs.

    Args:
        model: run once on the example, to see what its layers get.
        graph: of the model.
        example: as for `Channels`.
        timer: times the layers one by one, in the runtime that is meant.

    Returns:
        For each convolution and linear layer that runs the picoseconds of a pair of input and
        output channel, and those of an output channel; all calls of the layer together.
    """
    calls = layer_calls(model, example)
    traced = [layer for layer in graph.layers if layer.module in calls]
    runs_of = {x.module: list(_timed(model, x, calls[x.module])) for x in traced}
    distinct = {one.key: one for pairs in runs_of.values() for pair in pairs for one in pair}
    times = _quickest(distinct, timer)
    return {layer.module: _fitted(layer, runs_of[layer.module], times) for layer in traced}


def _timed(model: nn.Module, layer: Traced, shapes: Sequence[Shape]) -> Iterator[Sequence[_Timed]]:
    """Yield for each call of a layer the layer itself and, if it has no groups, half of it."""
    module: Any = model.get_submodule(layer.module)
    inputs, outputs = len(layer.inputs), len(layer.outputs)
    for shape in shapes:
        whole = _Timed(module, shape, inputs, outputs)
        if getattr(module, "groups", 1) > 1:
            yield (whole,)
            continue
        less, fewer = _half(inputs), _half(outputs)
        half = with_widths(module, less, fewer)
        yield whole, _Timed(half, with_channels(module, shape, less), less, fewer)


def _half(channels: int) -> int:
    """Return about half as many channels, as many as devices compute with no more effort."""
    return min(channels, -(-channels // (2 * _BLOCK)) * _BLOCK)


def _quickest(timed: Mapping[_Key, _Timed], timer: Timer) -> dict[_Key, float]:
    """Return the milliseconds of each layer, all of them in turns."""
    runs: dict[str, Callable[[], float]] = {
        str(key): timer.opened_layer(one.layer, noise(one.shape)) for key, one in timed.items()
    }
    found = timer.in_turns(runs, rounds=ROUNDS)
    return {key: min(found[str(key)]) for key in timed}


def _fitted(
    layer: Traced, calls: Sequence[Sequence[_Timed]], times: Mapping[_Key, float]
) -> tuple[int, int]:
    """Return picoseconds of a pair and of an output: the line through whole and half of a layer."""
    slopes = [_line([(x.inputs, x.outputs, times[x.key]) for x in call]) for call in calls]
    pair, output = (sum(values) * PICO for values in zip(*slopes, strict=True))
    return round(pair), round(output)


def _line(points: Sequence[tuple[int, int, float]]) -> tuple[float, float]:
    """Return the time of a pair and of an output, at least 0 each, of (inputs, outputs, time)."""
    inputs, outputs, time = points[0]
    if len(points) == 1:
        return 0.0, time / outputs
    less, fewer, shorter = points[1]
    if less == inputs:
        return time / (inputs * outputs), 0.0
    pair = (time / outputs - shorter / fewer) / (inputs - less)
    pair = min(max(pair, 0.0), time / (inputs * outputs))
    return pair, time / outputs - pair * inputs
