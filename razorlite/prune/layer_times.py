"""What a channel of each layer takes in milliseconds: fitted by timing each layer at two widths."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from razorlite.cost import Cost, Timer
from razorlite.prune.layer_calls import (
    Layer,
    Shape,
    geometry,
    layer_calls,
    noise,
    widths_of,
    with_channels,
    with_widths,
)

ROUNDS = 7  # of which the quickest counts: what else runs can only slow a layer down
PICO = 1e9  # picoseconds of a millisecond: costs are whole numbers
_BLOCK = 16  # the half width is a multiple of it, where there are so many

Times = Mapping[str, tuple[int, int]]
Clock = Callable[[nn.Module, Any], Times]  # of a model and its example


@dataclass(frozen=True)
class Timed:
    """A layer at a width, on inputs of one shape."""

    layer: Layer
    shape: Shape
    inputs: int
    outputs: int

    @property
    def key(self) -> str:
        """What tells it apart from all that may take another time."""
        kind = type(self.layer).__name__
        return str((kind, geometry(self.layer), self.shape, self.outputs))


Measure = Callable[[Mapping[str, Timed]], Mapping[str, float]]


def layer_times(model: nn.Module, example: Any, measure: Measure) -> Times:
    """Return what each layer takes as its channels go: it is timed whole, and at half its width.

    A layer takes `outputs * (output + inputs * pair)`: weights are read and maps are written.
    Layers with groups are timed whole, and all of their time goes with their outputs.

    Args:
        model: run once on the example, to see what its layers get.
        example: as for `Channels`.
        measure: returns the milliseconds of layers by their keys, as `quickest` does.

    Returns:
        For each convolution and linear layer that runs the picoseconds of a pair of input and
        output channel, and those of an output channel; all calls of the layer together.
    """
    runs_of = {
        path: list(_timed(model.get_submodule(path), shapes))
        for path, shapes in layer_calls(model, example).items()
    }
    distinct = {one.key: one for pairs in runs_of.values() for pair in pairs for one in pair}
    times = measure(distinct)
    return {path: _fitted(calls, times) for path, calls in runs_of.items()}


def quickest(timed: Mapping[str, Timed], timer: Timer) -> dict[str, float]:
    """Return the milliseconds of each layer, all of them in turns."""
    runs: dict[str, Callable[[], float]] = {
        key: timer.opened_layer(one.layer, noise(one.shape)) for key, one in timed.items()
    }
    found = timer.in_turns(runs, rounds=ROUNDS)
    return {key: min(found[key]) for key in timed}


def time_of(model: nn.Module, times: Times, cost: Cost) -> int:
    """Return the picoseconds of a model; what was not timed computes as fast as what was.

    Args:
        model: whose layers were timed.
        times: of its layers.
        cost: counted.
    """
    total = sum(
        outputs * (inputs * pair + output)
        for path, (pair, output) in times.items()
        for inputs, outputs in [widths_of(model.get_submodule(path))]
    )
    timed = sum(cost.modules[path].macs for path in times)
    return round(total * cost.macs / timed) if timed else cost.macs


def _timed(module: Any, shapes: Sequence[Shape]) -> Iterator[Sequence[Timed]]:
    """Yield for each call of a layer the layer itself and, if it has no groups, half of it."""
    inputs, outputs = widths_of(module)
    for shape in shapes:
        whole = Timed(module, shape, inputs, outputs)
        if getattr(module, "groups", 1) > 1:
            yield (whole,)
            continue
        less, fewer = _half(inputs), _half(outputs)
        half = with_widths(module, less, fewer)
        yield whole, Timed(half, with_channels(module, shape, less), less, fewer)


def _half(channels: int) -> int:
    """Return about half as many channels, as many as devices compute with no more effort."""
    return min(channels, -(-channels // (2 * _BLOCK)) * _BLOCK)


def _fitted(calls: Sequence[Sequence[Timed]], times: Mapping[str, float]) -> tuple[int, int]:
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
