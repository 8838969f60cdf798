"""Quantisation-aware training: a step that sees its layers as they will compute in 8 bits."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from razorlite.core.config import Given
from razorlite.core.ranges import ShareBelowOne
from razorlite.core.registry import register
from razorlite.engine.exchange import average_tensors
from razorlite.engine.steps import Backward, Metrics, Step, StepFunction, WrappingStep, plain_step

_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_TINY = 1e-8


@register()
class QuantisedStep(WrappingStep):
    """Rounds weights and inputs of layers to 8 bits while another step computes its losses.

    Weights are rounded symmetrically, with a scale for each output channel; inputs to 256 values
    between the moving averages of the batches' least and greatest, which `razorlite export --int8`
    takes from the checkpoint. Gradients pass the rounding as if it were not there, and are 0 where
    an input is clipped (https://arxiv.org/abs/1712.05877, section 3). The weights that are kept and
    averaged are the exact ones.

    Args:
        skip: patterns of layers that stay exact, such as "bbox_head.conv_cls".
        momentum: of the moving averages.
        base_step: the step inside.
    """

    def __init__(
        self,
        *,
        skip: list[str] | None = None,
        momentum: ShareBelowOne = 0.95,
        base_step: Given[Step | StepFunction] = plain_step,
    ) -> None:
        super().__init__(base_step)
        self.skip, self.momentum = list(skip or ()), momentum
        self.ranges: dict[str, Tensor] = {}

    def __call__(self, model: nn.Module, batch: Any, backward: Backward) -> Metrics:
        """Run the step inside with rounded layers, then move the averages."""
        seen: dict[str, Tensor] = {}
        with ExitStack() as stack:
            for name, layer in model.named_modules():
                if isinstance(layer, _LAYERS) and not self._skipped(name):
                    stack.enter_context(_rounded(layer, partial(self._input, name, seen)))
            metrics = self.base_step(model, batch, backward)
        average_tensors(list(seen.values()))
        for name, ends in seen.items():
            known = self.ranges.get(name, ends)
            self.ranges[name] = known.to(ends).lerp(ends, 1 - self.momentum)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return the ranges: name of a layer to (2,) least and greatest input."""
        return {**super().state_dict(), "ranges": dict(self.ranges)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.ranges = {name: value.clone() for name, value in state.get("ranges", {}).items()}

    def _skipped(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.skip)

    def _input(self, name: str, seen: dict[str, Tensor], value: Tensor) -> Tensor:
        """Return what a layer gets instead of an input, whose ends are noted."""
        ends = _ends(value)
        known = seen.get(name)
        seen[name] = ends if known is None else _outer(known, ends)
        return round_input(value, self.ranges.get(name, ends).to(value.device))


@torch.no_grad()
def _ends(value: Tensor) -> Tensor:
    """Return (2,) the least value, at most 0, and the greatest, at least 0."""
    least, most = value.detach().float().aminmax()
    return torch.stack((least.clamp(max=0), most.clamp(min=0)))


def _outer(first: Tensor, second: Tensor) -> Tensor:
    return torch.stack((torch.minimum(first, second)[0], torch.maximum(first, second)[1]))


@contextmanager
def _rounded(layer: nn.Module, inputs: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let a layer compute with rounded weights and inputs within the block."""
    exact = cast(Any, layer._parameters["weight"])
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    # In its parameter's place, so that their order stays.
    cast(Any, layer._parameters)["weight"] = round_weight(exact, axis)
    handle = layer.register_forward_pre_hook(lambda _, given: (inputs(given[0]), *given[1:]))
    try:
        yield
    finally:
        handle.remove()
        layer._parameters["weight"] = exact


def round_weight(weight: Tensor, axis: int = 0) -> Tensor:
    """Return a weight of any shape rounded to 255 values, symmetric around 0 in each channel.

    Args:
        weight: of a layer.
        axis: of the output channels.
    """
    others = [i for i in range(weight.ndim) if i != axis]
    scale = weight.detach().float().abs().amax(others).clamp(min=_TINY) / 127
    zeros = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zeros, axis, -127, 127)


def round_input(value: Tensor, ends: Tensor) -> Tensor:
    """Return a tensor of any shape rounded to 256 values, of which 0 is one.

    Args:
        value: what a layer gets.
        ends: (2,) least value, at most 0, and greatest, at least 0; what is beyond is clipped.
    """
    scale = ((ends[1] - ends[0]) / 255).clamp(min=_TINY)
    zero = (-ends[0] / scale).round().clamp(0, 255).to(torch.int32)
    rounded = torch.fake_quantize_per_tensor_affine(value.float(), scale, zero, 0, 255)
    return rounded.to(value.dtype)


def ranges_in(state: Any) -> dict[str, tuple[float, float]]:
    """Return the ranges in the state of a step, or of one inside it; none if there are none."""
    while isinstance(state, Mapping):
        if isinstance(state.get("ranges"), Mapping):
            return {name: (float(v[0]), float(v[1])) for name, v in state["ranges"].items()}
        state = state.get("base")
    return {}
