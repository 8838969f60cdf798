"""The command `benchmark`: speed, memory and accuracy of models and files, side by side."""

import csv
import io
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from razorlite.core.compute import Compute, with_layout
from razorlite.core.errors import ConfigError, RazorliteError
from razorlite.core.files import csv_text, write_text_atomic
from razorlite.core.streams import safe_console
from razorlite.deploy import Deployed, open_file, read_meta
from razorlite.deploy.half import HALF_NAME
from razorlite.deploy.quantise import INT8_NAME
from razorlite.deploy.timing import Run, Timing, Timings, machine, measure
from razorlite.recipes.experiment import ConfigLike, Experiment, read
from razorlite.recipes.loading import Inferencer
from razorlite.recipes.splits import Splits

_PEAK = "from razorlite.recipes.benchmarking import print_peak; print_peak({!r}, {!r})"
_COLUMNS = ("AP", "AP50", "mask_AP", "mAP", "top1")  # of the metrics, in the table
_BF16 = " bf16"  # ends the name of a model in PyTorch that computes in it
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Benchmark:
    """What `benchmark` measured.

    Attributes:
        shapes: name to height and width in pixels of the images that a model was given.
        batch: images at a time for the throughput.
        timings: latency and throughput.
        memory: name to the most memory of a process that runs it, in MiB.
        accuracy: name to the metric's values, where they were measured.
        machine: what the times depend on.
    """

    shapes: dict[str, tuple[int, int]]
    batch: int
    timings: Timings
    memory: dict[str, float]
    accuracy: dict[str, dict[str, float]]
    machine: dict[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row of plain values for each model and number of threads."""
        return [self._row(timing) for timing in self.timings.rows]

    def to_dict(self) -> dict[str, Any]:
        """Return all as plain values; "shape" is that of all models, None where they differ."""
        sizes = set(self.shapes.values())
        return {
            "shape": list(*sizes) if len(sizes) == 1 else None,
            "batch": self.batch,
            "machine": self.machine,
            "drift": round(self.timings.drift, 4),
            "rows": self.rows(),
        }

    def _row(self, timing: Timing) -> dict[str, Any]:
        latency = timing.latency
        return {
            "model": timing.name.removesuffix(_BF16),
            "runtime": _runtime(Path(timing.name)),
            "precision": _precision(timing.name),
            "threads": timing.threads,
            "shape": list(self.shapes[timing.name]),
            "latency_ms": latency.median,
            "latency_lower_ms": latency.lower,
            "latency_upper_ms": latency.upper,
            "images_per_second": timing.throughput,
            "memory_mib": self.memory[timing.name],
            **self.accuracy.get(timing.name, {}),
        }


def benchmark(
    models: Sequence[str | Path],
    *,
    shape: tuple[int, int] | None = None,
    threads: Sequence[int] | None = None,
    batch: int = 8,
    rounds: int = 30,
    accuracy: ConfigLike | None = None,
    csv_file: str | Path | None = None,
    bf16: bool = False,
) -> Benchmark:
    """Measure models on this machine's CPU: pixels in, detections out.

    Models take turns, so that a busy machine slows all alike. All do the same work: normalising,
    the network, and suppression.

    Args:
        models: run folders, checkpoints and exported files.
        shape: height and width in pixels; by default each model's configured one.
        threads: numbers of threads to measure with; 1 and all by default.
        batch: images at a time for the throughput.
        rounds: how often each latency is measured.
        accuracy: a configuration on whose test images the metric is measured, of the same files.
        csv_file: table to add the rows to, with the machine; it is created if need be.
        bf16: measure models in PyTorch in bfloat16, too.

    Raises:
        CheckpointError: a model cannot be read.
        ConfigError: a number is out of range, or a model cannot be run so.
        DataError: the test images cannot be read.
    """
    if min(batch, rounds, *(threads or [1])) < 1:
        raise ConfigError("batch, rounds and threads want whole numbers of at least 1")
    if csv_file is not None:
        _rows_in(Path(csv_file))  # a wrong file is refused at once
    loaded = {str(model): Inferencer(model, device="cpu") for model in models}
    if bf16:
        some = {name: one for name, one in loaded.items() if _runtime(one.path) == "pytorch"}
        loaded |= {name + _BF16: one for name, one in some.items()}
    shapes = {name: shape or one.experiment.shape for name, one in loaded.items()}
    counts = list(threads or dict.fromkeys([1, torch.get_num_threads()]))
    openers = {name: partial(_open, one, _compute(name)) for name, one in loaded.items()}
    result = Benchmark(
        shapes=shapes,
        batch=batch,
        timings=measure(openers, shapes, threads=counts, batch=batch, rounds=rounds),
        memory={name: _memory(name, shapes[name]) for name in loaded},
        accuracy={} if accuracy is None else _accuracies(loaded, accuracy),
        machine=machine(),
    )
    if csv_file is not None:
        write_text_atomic(csv_file, csv_text([*_rows_in(Path(csv_file)), *_rows_of(result)]))
    return result


def show(result: Benchmark) -> None:
    """Print a table, and whether the machine was steady."""
    console = safe_console()
    rows = result.rows()
    metrics = [name for name in _COLUMNS if any(name in row for row in rows)]
    names = _short([row["model"] for row in rows])
    table = Table(box=SIMPLE_HEAD)
    table.add_column("model", overflow="fold")
    for column in ("threads", "ms", "quartiles", "images/s", "MiB", *metrics):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        quartiles = f"{row['latency_lower_ms']:.1f}-{row['latency_upper_ms']:.1f}"
        numbers = [f"{row['latency_ms']:.1f}", quartiles, f"{row['images_per_second']:.1f}"]
        scores = [f"{row[name]:.4f}" if name in row else "" for name in metrics]
        cells = [str(row["threads"]), *numbers, f"{row['memory_mib']:.0f}", *scores]
        name = names[row["model"]] + (_BF16 if row["precision"] == "bf16" else "")
        table.add_row(escape(name), *cells)
    console.print(table)
    own = ", ".join(f"{name} {value}" for name, value in result.machine.items())
    sizes = _sizes(result, names)
    console.print(f"one image of {sizes}; images/s in batches of {result.batch}", soft_wrap=True)
    console.print(own, soft_wrap=True)
    if not result.timings.steady:
        console.print(
            f"not steady: from the first to the last rounds times changed by "
            f"{result.timings.drift:+.0%}; the machine throttles or is busy, measure again",
            soft_wrap=True,
        )


def _sizes(result: Benchmark, names: Mapping[str, str]) -> str:
    """Return the sizes of images in words, and if they differ whose they are."""
    whose: dict[tuple[int, int], list[str]] = {}
    for name, shape in result.shapes.items():
        whose.setdefault(shape, []).append(names[name.removesuffix(_BF16)])
    if len(whose) == 1:
        return "{} x {}".format(*next(iter(whose)))
    return ", ".join(
        f"{height} x {width} ({', '.join(dict.fromkeys(own))})"
        for (height, width), own in whose.items()
    )


def _short(names: Sequence[str]) -> dict[str, str]:
    """Return names without the folder that all of them are in, if they are written alike."""
    folders = {os.path.dirname(name) for name in names}
    alike = all(folders) and len(set(map(os.path.isabs, folders))) == 1
    common = os.path.commonpath(folders) if alike else ""
    return {name: os.path.relpath(name, common) if common else name for name in names}


def print_peak(model: str, shape: tuple[int, int]) -> None:
    """Print the most memory in MiB that this process took to run a model on one image."""
    run = _open(Inferencer(model.removesuffix(_BF16), device="cpu"), _compute(model), 1)
    with torch.no_grad():
        run(torch.zeros(1, 3, *shape))
    print(_peak_mib())


def _peak_mib() -> float:
    """Return the most memory that this process took so far, in MiB."""
    if _STATUS.is_file():  # ru_maxrss would be that of the process that started this one
        return int(re.findall(r"VmHWM:\s*(\d+) kB", _STATUS.read_text())[0]) / 1024
    import resource  # not on Windows

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1024**2 if sys.platform == "darwin" else 1024)


def _memory(model: str, shape: tuple[int, int]) -> float:
    command = [sys.executable, "-c", _PEAK.format(model, tuple(shape))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RazorliteError(f"measuring the memory of {model} failed: {lines[-1]}")
    return float(done.stdout.split()[-1])


def _compute(name: str) -> Compute:
    return Compute.of(torch.device("cpu"), "bf16" if name.endswith(_BF16) else None)


def _open(loaded: Inferencer, compute: Compute, threads: int) -> Run:
    """Return a model as a function of pixels; a PyTorch model does what its file would do."""
    if _runtime(loaded.path) != "pytorch":
        return open_file(loaded.path, threads)
    deployed = Deployed(loaded.model, loaded.preprocess).eval()

    def run(pixels: Tensor) -> object:
        with compute.autocast():
            return deployed(with_layout(pixels, compute.layout))

    return run


def _runtime(path: Path) -> str:
    return {".onnx": "onnxruntime", ".torchscript": "torchscript"}.get(path.suffix, "pytorch")


def _precision(name: str) -> str:
    if name.endswith(_BF16):
        return "bf16"
    meta = read_meta(name) if name.endswith(".onnx") else {}
    known = {INT8_NAME: "int8", HALF_NAME: "float16"}
    return next((known[key] for key in known if key in meta), "float32")


def _accuracies(loaded: dict[str, Inferencer], config: ConfigLike) -> dict[str, dict[str, float]]:
    _, experiment = read(config)
    found = {}
    for name, one in loaded.items():
        with _compute(name).autocast():
            found[name] = _accuracy(one, experiment)
    return found


def _accuracy(loaded: Inferencer, experiment: Experiment) -> dict[str, float]:
    """Return the metric's values on a configuration's test images, as the model takes them."""
    if experiment.data is None:
        raise ConfigError("accuracy wants a configuration with a `data` block and a `metric`")
    data = experiment.data.prepared_by(loaded.preprocess)
    if data.test is not None and loaded.preprocess.transforms is not None:
        own_transforms = loaded.preprocess.image_transforms()
        data = replace(data, test=replace(data.test, transforms=own_transforms))
    train = experiment.train and replace(experiment.train, amp=None)  # the model's own counts
    own = replace(experiment, data=data, train=train)
    splits = Splits(own, loaded.device, loaded.class_names)
    return splits.evaluate(loaded.model, splits.test, "test")


def _rows_of(result: Benchmark) -> list[dict[str, Any]]:
    """Return rows of a table, each with the machine."""
    return [
        {**row, **result.machine, "shape": "x".join(map(str, row["shape"]))}
        for row in result.rows()
    ]


def _rows_in(path: Path) -> list[dict[str, Any]]:
    """Return the rows that a table has, none of a file that is not there.

    Raises:
        ConfigError: it is no table of benchmarks, and would be lost.
    """
    if not path.exists():
        return []
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read as a table: {error}; name another") from error
    if any("latency_ms" not in row for row in rows):
        raise ConfigError(f"{path} is no table of benchmarks; name another file by --csv")
    return rows
