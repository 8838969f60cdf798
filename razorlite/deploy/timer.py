"""Models timed in turns in the runtime that they are shipped in."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from razorlite.core.compute import Compute, with_layout
from razorlite.core.errors import ConfigError
from razorlite.cost import LatencyConfig
from razorlite.cost.latency import take_turns
from razorlite.deploy.export import OPSET, SUFFIXES, Format, write_file
from razorlite.deploy.layer_file import can_write, write_layer
from razorlite.deploy.quantise import calibrate
from razorlite.deploy.runtimes import open_file
from razorlite.structures import inputs_of, is_shape, map_tensors

_FORMATS: Any = {"onnxruntime": "onnx", "onnx-int8": "onnx", "torchscript": "torchscript"}
_MOST, _LEAST, _WARMUP = 60_000, 5, 2  # milliseconds of all rounds; rounds at least; before them
Run = Callable[..., object]


@dataclass(frozen=True)
class RuntimeTimer:
    """Times models in turns, so that a busy machine slows all alike.

    Attributes:
        example: (height, width) in pixels of images, or another example of what the models are
            called with, as for `razorlite.prune.Channels`.
        settings: runtime, threads, batch and rounds.
        form: makes of a model what is shipped, a module of (N, 3, H, W) pixels such as `Deployed`;
            by default models are timed as they are.
    """

    example: Any
    settings: LatencyConfig = field(default_factory=LatencyConfig)
    form: Callable[[nn.Module], nn.Module] | None = None

    @property
    def conditions(self) -> dict[str, Any]:
        """What the times depend on beside the models and the machine."""
        own = self.settings
        known = {"runtime": own.runtime, "threads": own.threads, "batch": own.batch}
        size = {"shape": list(self.example)} if is_shape(self.example) else {}
        dtype = "int8" if own.runtime == "onnx-int8" else "float32"
        return {**known, **size, "device": "cpu", "dtype": dtype}

    def opened(self, model: nn.Module) -> "OpenedModel":
        """Return what runs a model once, as it is now, and tells the milliseconds of an image.

        Raises:
            ConfigError: the model takes no batches of images, and the settings want some.
            ExportError: the model cannot be exported, or the runtime is not installed.
        """
        model = copy.deepcopy(model).cpu().eval()
        inputs = self._inputs(model)
        shipped = model if self.form is None else self.form(model).eval()
        if self.settings.runtime == "pytorch":
            return OpenedModel(self, *_in_pytorch(shipped, inputs))
        images = self.check_images(inputs)
        return OpenedModel(self, self._from_file(images, partial(_write_model, shipped)), (images,))

    def opened_layer(self, layer: nn.Module, inputs: Tensor) -> Callable[[], float]:
        """Return what runs a convolution or a linear layer once, and tells the milliseconds.

        Args:
            layer: is copied.
            inputs: of one image, (1, C, H, W) maps or (..., C) of a linear layer.

        Raises:
            ExportError: the runtime is not installed.
        """
        layer = copy.deepcopy(layer).cpu().eval()
        inputs = torch.cat([inputs] * self.settings.batch)
        if self.settings.runtime == "pytorch":
            return OpenedModel(self, *_in_pytorch(layer, (inputs,)))
        write = partial(_write_layer, layer)
        return OpenedModel(self, self._from_file(inputs, write, layer=True), (inputs,))

    def in_turns(
        self, runs: Mapping[str, Callable[[], float]], rounds: int | None = None
    ) -> dict[str, list[float]]:
        """Return for each name the milliseconds of one image in each round."""
        with _threads(self.settings.threads):
            first = take_turns(runs, rounds=1, warmup=_WARMUP)
            once = sum(values[0] for values in first.values()) * self.settings.batch
            most = max(_LEAST, int(_MOST / max(once, 1e-3)))
            return take_turns(runs, rounds=min(rounds or self.settings.rounds, most), warmup=0)

    def _from_file(
        self, images: Tensor, write: Callable[[Path, Tensor, Any], None], layer: bool = False
    ) -> Run:
        chosen = _FORMATS[self.settings.runtime]
        with TemporaryDirectory() as folder:  # the runtime has read the file once it is open
            path = Path(folder) / f"model{SUFFIXES[chosen]}"
            write(path, images, chosen)
            if self.settings.runtime == "onnx-int8":  # what it finds is of no matter to its time
                calibrate(path, [images], whole=layer).write(path)
            return open_file(path, self.settings.threads)

    def _inputs(self, model: nn.Module) -> tuple[Any, ...]:
        inputs = inputs_of(model, self.example)
        if self.form is None and self.settings.batch == 1:
            return inputs
        images = self.check_images(inputs)
        noise = torch.rand(
            (self.settings.batch, *images.shape[1:]), generator=torch.Generator().manual_seed(0)
        )
        return (255 * noise if self.form is not None else noise,)

    def check_images(self, inputs: tuple[Any, ...]) -> Tensor:
        """Return the only input, (N, C, H, W), of a model that takes images.

        Raises:
            ConfigError: it takes something else.
        """
        if len(inputs) == 1 and isinstance(inputs[0], Tensor):
            return inputs[0].cpu()
        own = self.settings
        raise ConfigError(
            f"latency in {own.runtime} in batches of {own.batch} wants a model of one tensor of "
            f"images; set runtime: pytorch and batch: 1"
        )


@dataclass(frozen=True)
class OpenedModel:
    """A model in its runtime.

    Attributes:
        timer: that opened it.
        run: the model as a function.
        inputs: what it is given.
    """

    timer: RuntimeTimer
    run: Run
    inputs: tuple[Any, ...]

    @torch.no_grad()
    def __call__(self) -> float:
        """Run the model once, and return the milliseconds of one image."""
        settings = self.timer.settings
        clock = time.process_time if settings.threads == 1 else time.perf_counter
        start = clock()
        self.run(*self.inputs)
        return 1000 * (clock() - start) / settings.batch

    def resized(self, shape: tuple[int, int]) -> "OpenedModel":
        """Return the same model, given images of another size.

        Args:
            shape: height and width in pixels.

        Raises:
            ConfigError: it takes no tensor of images.
        """
        images = interpolate(self.timer.check_images(self.inputs), size=tuple(shape))
        return replace(self, inputs=(images,))


def _write_model(model: nn.Module, path: Path, images: Tensor, chosen: Format) -> None:
    write_file(model, path, images, format=chosen)


def _write_layer(layer: nn.Module, path: Path, inputs: Tensor, chosen: Format) -> None:
    if chosen == "onnx" and can_write(layer):
        write_layer(layer, path, inputs, opset=OPSET)
    else:
        write_file(layer, path, inputs, format=chosen)


def _in_pytorch(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[Run, tuple[Any, ...]]:
    compute = Compute(torch.device("cpu"))
    return compute.place(model), map_tensors(lambda x: with_layout(x, compute.layout), inputs)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let PyTorch compute with a number of threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
