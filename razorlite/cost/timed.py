"""What latency is measured in, and by whom: settings and the face of a timer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from razorlite.core.ranges import Count, checked

Runtime = Literal["pytorch", "onnxruntime", "onnx-int8", "torchscript"]


@checked
@dataclass(frozen=True, kw_only=True)
class LatencyConfig:
    """How latency is measured, on this machine's CPU, in float32 but for onnx-int8.

    Attributes:
        runtime: what runs the model: PyTorch, or another one the file that is exported for it;
            onnx-int8 is ONNX Runtime on the file that is quantised to 8 bits.
        threads: that it computes with. With one, the process's own processor time counts, so that
            other programs do not; with more, the wall clock's.
        batch: images at a time; a latency is that of one image.
        rounds: how often each model is run, in turns; less often, but five times, if that takes
            longer than a minute.
    """

    runtime: Runtime = "pytorch"
    threads: Count = 1
    batch: Count = 1
    rounds: Count = 20


class Opened(Protocol):
    """A model that is ready to be timed."""

    def __call__(self) -> float:
        """Run it once, and return the milliseconds of one image."""

    def resized(self, shape: tuple[int, int]) -> "Opened":
        """Return the same model, given images of another height and width in pixels."""


class Timer(Protocol):
    """What times models in turns, such as `razorlite.deploy.RuntimeTimer`."""

    @property
    def conditions(self) -> Mapping[str, Any]:
        """What the times depend on beside the models and the machine: plain values."""

    def opened(self, model: nn.Module) -> Opened:
        """Return what runs a model once, as it is now, and tells the milliseconds of an image."""

    def opened_layer(self, layer: nn.Module, inputs: Tensor) -> Callable[[], float]:
        """Return the same of a convolution, at (1, C, H, W) maps, or of a linear layer."""

    def in_turns(
        self, runs: Mapping[str, Callable[[], float]], rounds: int | None = None
    ) -> Mapping[str, Sequence[float]]:
        """Return for each name the milliseconds of one image in each round."""
