"""Latency of every point of a space, as a sum of what its parts take, measured once."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from razorlite.core.progress import progress
from razorlite.cost.count import evaluating, moved
from razorlite.cost.cover import covering
from razorlite.cost.dependence import Dependence, Group
from razorlite.cost.factored import FactoredCost, Part
from razorlite.cost.latency import wait_for
from razorlite.cost.observing import Clock, CountedRuns, Observation, Supernet, watched
from razorlite.cost.tabulate import filled, kept_point
from razorlite.structures import Inputs, example_inputs

Groups = Mapping[str, Group]


def measured_latency(
    space: Supernet,
    shape: tuple[int, int] = (224, 224),
    *,
    rounds: int = 10,
    warmup: int = 2,
    device: torch.device | str = "cpu",
    name: str = "latency_ms",
) -> FactoredCost:
    """Time a supernet's parts, batch 1, and return the sum for every point, in milliseconds.

    The supernet runs at the points that show every combination of what any part depends on, in
    turns, so that a busy machine slows all alike; each entry is the median of all runs that show
    it. A part is a mutable without those inside it, or a module elsewhere whose
    multiply-accumulates vary; what is left is the same for all points, the median over all runs.

    Args:
        space: of a supernet. It is left as it was.
        shape: height and width in pixels.
        rounds: how often each of the points is run.
        warmup: untimed rounds before.
        device: where to run; the model comes back to where it was.
        name: of the cost.

    Raises:
        ConfigError: the model fails at a point, or a part depends on too many dimensions.
    """
    inputs = example_inputs(space.model, shape, device="cpu")
    with kept_point(space):
        dependence = Dependence(space, CountedRuns(space, inputs))
        dependence.points()
        groups = _timed(dependence)
        points = covering(groups.values(), space.counts, space.canonical)
        points = points or [np.zeros(len(space.counts), dtype=np.int64)]
        with _on(torch.device(device), space.model):
            runs = _Runs(space, moved(inputs, torch.device(device)), groups, torch.device(device))
            numbers = progress(range(-warmup, rounds), "rounds of timing", warmup + rounds)
            seen = [runs.of_round(points, number) for number in numbers][warmup:]
    pairs = [pair for one in seen for pair in zip(points, one, strict=True)]
    return _table(space, pairs, groups, name)


@contextmanager
def _on(device: torch.device, model: nn.Module) -> Iterator[None]:
    """Keep a model on a device within the block."""
    before = next((p.device for p in model.parameters()), device)
    model.to(device)
    try:
        yield
    finally:
        model.to(before)


def _timed(dependence: Dependence) -> dict[str, Group]:
    """Return the paths of what is timed by itself, and what that depends on."""
    mutables = dependence.space.mutables
    groups: dict[str, Group] = {}
    for path, group in dependence.groups.items():
        home = _innermost(path, mutables)
        if home is not None or group:
            own = path if home is None else home
            groups[own] = tuple(sorted({*groups.get(own, ()), *group}))
    return {"": (), **groups}


def _innermost(path: str, mutables: Mapping[str, nn.Module]) -> str | None:
    """Return the path of the mutable that a module belongs to, None if it is in none."""
    parts = path.split(".")
    ends = [*(".".join(parts[:n]) for n in range(len(parts), 0, -1)), ""]
    return next((end for end in ends if end in mutables), None)


class _Runs:
    """Timed runs of a supernet."""

    def __init__(
        self, space: Supernet, inputs: Inputs, groups: Groups, device: torch.device
    ) -> None:
        self.space, self.inputs, self.device = space, inputs, device
        self.modules = {path: space.model.get_submodule(path) for path in groups}

    def of_round(self, points: Sequence[np.ndarray], number: int) -> list[Observation]:
        """Return what is seen at each point; every other round goes backwards."""
        order = range(len(points))[:: 1 if number % 2 else -1]
        seen = {i: self._at(points[i]) for i in order}
        return [seen[i] for i in range(len(points))]

    @torch.no_grad()
    def _at(self, point: np.ndarray) -> Observation:
        self.space.select(self.space.decode(point))
        clock = Clock(self._milliseconds)
        with evaluating(self.space.model), watched(self.modules, clock):
            self.space.model(self.inputs)
        return clock.observation

    def _milliseconds(self) -> float:
        wait_for(self.device)
        return 1000 * time.perf_counter()


def _table(
    space: Supernet,
    runs: Sequence[tuple[np.ndarray, Observation]],
    groups: Groups,
    name: str,
) -> FactoredCost:
    """Return the medians as a table of parts."""
    times: dict[str, dict[bytes, list[float]]] = defaultdict(lambda: defaultdict(list))
    for point, seen in runs:
        for path, group in groups.items():
            times[path][point[list(group)].tobytes()].append(seen.amounts.get(path, 0.0))
    medians = {
        path: {key: statistics.median(values) for key, values in found.items()}
        for path, found in times.items()
    }
    parts = [
        Part(group, {name: filled(space, group, medians[path]).astype(np.float64)})
        for path, group in groups.items()
        if group
    ]
    fixed = sum(medians[path][b""] for path, group in groups.items() if not group)
    return FactoredCost(space, fixed={name: float(fixed)}, parts=parts)
