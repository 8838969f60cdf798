"""Latency, measured fairly: models take turns, so that a busy machine slows all alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from razorlite.core.compute import Compute, with_layout
from razorlite.core.progress import progress
from razorlite.cost.count import evaluating
from razorlite.structures import Inputs, example_inputs, map_images, tensors_of


@dataclass(frozen=True)
class Latency:
    """Time of one image, in milliseconds.

    Attributes:
        median: over the rounds.
        lower: first quartile.
        upper: third quartile.
        rounds: how many runs were timed.
        threads: how many CPU threads torch used.
        device: where it ran.
    """

    median: float
    lower: float
    upper: float
    rounds: int
    threads: int
    device: str


@torch.no_grad()
def measure_latency(
    models: Mapping[str, nn.Module],
    shape: tuple[int, int],
    *,
    rounds: int = 30,
    warmup: int = 3,
    device: torch.device | str = "cpu",
) -> dict[str, Latency]:
    """Time `model(inputs)` of several models, batch 1, in turns.

    Args:
        models: name to a model that takes (1, 3, H, W) images, or has `example` (see
            `razorlite.structures.example_inputs`); moved to the device for good and laid out
            channels last, as all commands run it, in evaluation mode.
        shape: height and width in pixels.
        rounds: how often each model is timed.
        warmup: untimed rounds before.
        device: where to run.

    Returns:
        Name to its costs.
    """
    compute = Compute(torch.device(device))

    def run(model: nn.Module) -> float:
        placed = compute.place(model)
        return _time(placed, _with_layout(example_inputs(placed, shape), compute))

    runs = {name: partial(run, model) for name, model in models.items()}
    times = take_turns(runs, rounds=rounds, warmup=warmup)
    return {name: summary(values, str(device)) for name, values in times.items()}


def take_turns(
    runs: Mapping[str, Callable[[], float]], *, rounds: int, warmup: int = 3
) -> dict[str, list[float]]:
    """Call functions that return how long they took, in turns and each time in the other order.

    Args:
        runs: name to function.
        rounds: how often each counts.
        warmup: rounds before that do not.

    Returns:
        Name to what was returned in each round.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in progress(range(-warmup, rounds), "rounds of timing", warmup + rounds):
        # Turn the order around, so that nothing always runs after the same one.
        for name in list(runs)[:: 1 if number % 2 else -1]:
            spent = runs[name]()
            if number >= 0:
                times[name].append(spent)
    return times


def _with_layout(inputs: Inputs, compute: Compute) -> Inputs:
    return map_images(lambda images: with_layout(images, compute.layout), inputs)


def _time(model: nn.Module, inputs: Inputs) -> float:
    device = tensors_of(inputs)[0].device
    with evaluating(model):
        wait_for(device)
        start = time.perf_counter()
        model(inputs)
        wait_for(device)
        return 1000 * (time.perf_counter() - start)


def wait_for(device: torch.device) -> None:
    """Let what was started on a device end."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def summary(values: Sequence[float], device: str = "cpu") -> Latency:
    """Return median and quartiles of times in milliseconds, measured with torch's threads."""
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else None
    lower, median, upper = quartiles or (values[0],) * 3
    return Latency(median, lower, upper, len(values), torch.get_num_threads(), device)
