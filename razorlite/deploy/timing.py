"""How fast models and exported files are, side by side: pixels in, detections out."""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from razorlite.cost.latency import Latency, summary, take_turns

Run = Callable[[Tensor], object]
Opener = Callable[[int], Run]
_DRIFT = 0.1  # between the first and the last third of the rounds, that is said
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Timing:
    """How fast one model is with one number of threads.

    Attributes:
        name: of the model.
        threads: that it computed with.
        latency: of one image, in milliseconds.
        throughput: images a second, in batches.
    """

    name: str
    threads: int
    latency: Latency
    throughput: float


@dataclass(frozen=True)
class Timings:
    """What was measured, and how steady the machine was.

    Attributes:
        rows: one for each model and number of threads.
        drift: by what share the last third of the rounds was slower than the first, over all
            models; negative if it was faster.
    """

    rows: tuple[Timing, ...]
    drift: float

    @property
    def steady(self) -> bool:
        """Whether the machine was about as fast at the end as in the beginning."""
        return abs(self.drift) <= _DRIFT


def measure(
    openers: Mapping[str, Opener],
    shapes: Mapping[str, tuple[int, int]],
    *,
    threads: Sequence[int],
    batch: int = 8,
    rounds: int = 30,
    warmup: int = 5,
) -> Timings:
    """Time models in turns, so that a busy machine slows all alike.

    Args:
        openers: name to what opens a model with a number of threads, as a function of (N, 3, H, W)
            float pixels from 0 to 255.
        shapes: name to height and width in pixels of what each is given.
        threads: numbers of threads to measure with.
        batch: images at a time for the throughput.
        rounds: how often each is timed for the latency; for the throughput a quarter as often.
        warmup: rounds before that do not count.
    """
    before = torch.get_num_threads()
    rows, drifts = [], []
    try:
        for count in threads:
            torch.set_num_threads(count)
            runs = {name: opener(count) for name, opener in openers.items()}
            times = _times(runs, 1, shapes, rounds, warmup)
            many = _times(runs, batch, shapes, max(1, rounds // 4), 1)
            drifts += [_drift(values) for values in times.values()]
            for name, values in times.items():
                images = 1000 * batch / median(many[name])
                rows.append(Timing(name, count, summary(values), images))
    finally:
        torch.set_num_threads(before)
    return Timings(tuple(rows), median(drifts))


def _times(
    runs: Mapping[str, Run],
    batch: int,
    shapes: Mapping[str, tuple[int, int]],
    rounds: int,
    warmup: int,
) -> dict[str, list[float]]:
    pixels = {shape: _noise((batch, 3, *shape)) for shape in set(shapes.values())}
    timed = {name: partial(_time, run, pixels[shapes[name]]) for name, run in runs.items()}
    return take_turns(timed, rounds=rounds, warmup=warmup)


def _noise(shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 255


@torch.no_grad()
def _time(run: Run, pixels: Tensor) -> float:
    start = time.perf_counter()
    run(pixels)
    return 1000 * (time.perf_counter() - start)


def _drift(values: Sequence[float]) -> float:
    third = max(1, len(values) // 3)
    return median(values[-third:]) / median(values[:third]) - 1


def processor_milliseconds(
    runs: Sequence[Run], shape: tuple[int, int], *, rounds: int = 20, seconds: float = 20.0
) -> list[float]:
    """Return the processor's time for one image of each of several models, in turns.

    Args:
        runs: functions of (1, 3, H, W) float pixels that compute with one thread.
        shape: height and width in pixels.
        rounds: how often each is timed at most.
        seconds: after which no more rounds begin, of three at least.

    Returns:
        Medians in milliseconds; what other programs take does not count.
    """
    pixels = _noise((1, 3, *shape))
    timed = {str(number): partial(_spent, run, pixels) for number, run in enumerate(runs)}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        first = take_turns(timed, rounds=1, warmup=1)
        once = sum(values[0] for values in first.values()) / 1000
        most = max(3, min(rounds, int(seconds / max(once, 1e-6))))
        return [median(values) for values in take_turns(timed, rounds=most, warmup=0).values()]
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def _spent(run: Run, pixels: Tensor) -> float:
    start = time.process_time()  # other programs do not count
    run(pixels)
    return 1000 * (time.process_time() - start)


def machine() -> dict[str, Any]:
    """Return what times depend on: processor, cores, versions, date."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }
    with suppress(PackageNotFoundError):
        found["onnxruntime"] = version("onnxruntime")
    return found


def _processor() -> str:
    if _CPUINFO.is_file():
        for line in _CPUINFO.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
