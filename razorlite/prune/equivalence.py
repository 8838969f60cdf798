"""Run a slim and a masked model on noise: they must compute the same.

What tracing cannot see shows here: hooks, sizes that a forward reads from its layers, branches on
data, modules that run in training alone. Copies are run in double precision, so that rounding plays
no part, with weights that are all alike (norms before training, scales near zero) moved apart, so
that no mix-up hides behind them.
"""

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from razorlite.core.errors import ExportError
from razorlite.engine.random_state import kept_random_state
from razorlite.prune._arithmetic import arithmetic
from razorlite.prune._surgery import Sides, cut_layers, mask_layers
from razorlite.prune.masks import without_masks
from razorlite.structures import (
    Inputs,
    Target,
    example_inputs,
    images_of,
    inputs_of,
    is_shape,
    map_tensors,
    tensors_in,
    training_calls,
    with_noise,
)

_log = logging.getLogger("razorlite")
_SIDE = 64  # pixels, if the model takes images so small
_VALUES = 8  # of a channel that norms see at 1/32 of the image: with two, rounding grows by layers
_NUDGE = {True: 1e-12, False: 1e-6}  # of weights, by precision: thousands of times its rounding
_OTHER = -3.0  # times the noise of the first run: what branches on data may turn on

Call = Callable[[nn.Module], Any]


def check_outputs(model: nn.Module, sides: Mapping[str, Sides], example: Any) -> None:
    """Compare the slim with the masked model.

    Args:
        model: the whole model; not changed.
        sides: what stays of each layer.
        example: what the model is called with, as for `Channels`.

    Raises:
        ExportError: they differ; names the first module where they do.
    """
    fault = first_difference(model, sides, example)
    if fault:
        raise ExportError(
            "the slim model does not fit together, or computes something else than the whole one: "
            f"{fault}; name the module that makes the channels in `ignore`, or this part of the "
            "model in `leaves`"
        )


def first_difference(model: nn.Module, sides: Mapping[str, Sides], example: Any) -> str:
    """Return where the slim model parts from the masked one, in words; empty if nowhere.

    Models on the meta device are not run. Arguments as for `check_outputs`.

    Raises:
        ExportError: the whole model does not run on random images.
    """
    if is_without_values(model):
        return ""
    with kept_random_state(), torch.no_grad():
        whole, inputs, exact = _rehearsed(model, example)
        slim = copy.deepcopy(whole)
        cut_layers(slim, sides)
        mask_layers(whole, sides)
        with arithmetic(exact):
            faults = (_compare(whole, slim, sides, run, exact) for run in _runs(whole, *inputs))
            return next(filter(None, faults), "")


def is_without_values(model: nn.Module) -> bool:
    """Return whether a model, on the meta device, cannot be run on images."""
    return any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


@dataclass(frozen=True)
class _Run:
    """One way to run a model.

    Attributes:
        when: in words.
        training: the mode.
        call: runs a model.
    """

    when: str
    training: bool
    call: Call

    def __call__(self, model: nn.Module, seed: int = 0) -> list[Tensor]:
        torch.manual_seed(seed)
        return list(tensors_in(self.call(model.train(self.training))))


def _rehearsed(model: nn.Module, example: Any) -> tuple[nn.Module, list[tuple[Any, ...]], bool]:
    """Return a copy to be run, inputs of noise, and whether it computes in double precision."""
    error = ""
    for exact in (True, False):
        copied = _rehearsal(model, exact)
        for given in _examples(copied, example):
            inputs = [_noise(copied, given, scale) for scale in (1.0, _OTHER)]
            try:
                with arithmetic(exact):
                    copied.eval()(*inputs[0])
                return copied, inputs, exact
            except Exception as caught:  # whatever a forward may raise
                error = error or _first_line(caught)
    what = f"images of {tuple(example)}" if is_shape(example) else "inputs like the example"
    raise ExportError(f"the model does not run on random {what}: {error}")


def _examples(model: nn.Module, example: Any) -> Iterator[tuple[Any, ...]]:
    """Yield what a model may be called with: of images small batches of small ones first."""
    if not is_shape(example):
        yield inputs_of(model, example)
        return
    height, width = example
    sizes = dict.fromkeys([(min(height, _SIDE), min(width, _SIDE)), (height, width)])
    batches = [(_batch_size(*size), size) for size in sizes] + [(1, size) for size in sizes]
    for count, size in batches:
        yield (example_inputs(model, size, count=count),)


def _batch_size(height: int, width: int) -> int:
    cells = max(height // 32, 1) * max(width // 32, 1)
    return max(2, _VALUES // cells)


def _noise(model: nn.Module, inputs: tuple[Any, ...], scale: float) -> tuple[Any, ...]:
    """Return inputs on the model's device and in its precision, with scaled noise for zeros."""
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    generator = torch.Generator().manual_seed(0)

    def made(x: Tensor) -> Tensor:
        x = x.to(first.device, first.dtype if x.is_floating_point() else x.dtype)
        noisy = with_noise(x, generator)
        assert isinstance(noisy, Tensor)
        return noisy if noisy is x else scale * noisy

    return tuple(map_tensors(made, inputs))


def _rehearsal(model: nn.Module, exact: bool) -> nn.Module:
    """Return a copy in double precision in which no weights are all alike."""
    copied = without_masks(copy.deepcopy(model))
    copied = copied.double() if exact else copied
    generator = torch.Generator().manual_seed(0)
    for tensor in [*copied.parameters(), *copied.buffers()]:
        if tensor.is_floating_point() and tensor.numel() > 1 and tensor.min() == tensor.max():
            noise = torch.rand(tensor.shape, generator=generator) / 2
            tensor.add_(noise.to(tensor.device, tensor.dtype))
    return copied


def _runs(model: nn.Module, inputs: tuple[Any, ...], other: tuple[Any, ...]) -> list[_Run]:
    """Return all ways to run a model, the evaluation first."""
    runs = [_Run("in evaluation mode", False, _called(inputs))]
    runs += [_Run("in evaluation mode on other noise", False, _called(other))]
    runs += [_Run("in training mode", True, _called(x)) for x in training_calls(model, inputs)]
    images = images_of(inputs[0]) if isinstance(inputs[0], Tensor | Mapping) else None
    if callable(getattr(model, "loss", None)) and images is not None:
        losses = (_loss(inputs[0], targets) for targets in _targets(images))
        runs += [_Run("in its losses", True, loss) for loss in losses]
    return runs


def _called(inputs: tuple[Any, ...]) -> Call:
    return lambda model: model(*inputs)


def _loss(inputs: Inputs, targets: Any) -> Call:
    def loss(model: Any) -> Any:
        return model.loss(inputs, targets)

    return loss


def _targets(images: Tensor) -> tuple[list[Target], Tensor]:
    """Return what a batch may show: boxes for a detector, labels for a classifier."""
    count, height, width = len(images), *images.shape[-2:]
    x, y = width // 8, height // 8
    boxes = images.new_tensor([[x, y, 5 * x, 6 * y], [3 * x, 2 * y, 7 * x, 7 * y]])
    labels = torch.zeros(2, dtype=torch.int64, device=images.device)
    masks = torch.zeros(2, height, width, dtype=torch.bool, device=images.device)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = True
    target = Target(boxes=boxes, labels=labels, masks=masks)
    return [target] * count, torch.zeros(count, dtype=torch.int64, device=images.device)


def _compare(
    whole: nn.Module, slim: nn.Module, sides: Mapping[str, Sides], run: _Run, exact: bool
) -> str:
    """Run both models; return where they differ, or nothing."""
    try:
        expected = run(whole)
    except Exception:  # it wants other targets, say: then this is not how it is trained
        return ""
    try:
        if _same(expected, run(slim), exact):
            return _hidden_difference(whole, slim, sides, run, exact) if _is_empty(expected) else ""
    except Exception as error:  # whatever a forward may raise that meets other sizes
        return f"{_Watch(slim).place(run)} fails {run.when} ({_first_line(error)})"
    unsure = _why_unsure(whole, expected, run, exact)
    if unsure:
        _log.warning("%s %s, so pruning is not checked there", unsure, run.when)
        return ""
    hidden = _hidden_difference(whole, slim, sides, run, exact)
    return hidden or f"the model itself gives something else {run.when}"


def _why_unsure(whole: nn.Module, expected: list[Tensor], run: _Run, exact: bool) -> str:
    """Return why a model may give something else in the same run; empty if it may not."""
    if not _same(expected, run(whole, seed=1), exact):
        return "the model draws random numbers"
    if run.training and not _same(expected, run(_nudged(whole, _NUDGE[exact])), exact):
        return "rounding grows from layer to layer"
    return ""


def _nudged(model: nn.Module, share: float) -> nn.Module:
    """Return a copy whose parameters are moved by a share of themselves."""
    copied, generator = copy.deepcopy(model), torch.Generator().manual_seed(0)
    for tensor in copied.parameters():
        noise = torch.randn(tensor.shape, generator=generator).to(tensor.device, tensor.dtype)
        tensor.mul_(1 + share * noise)
    return copied


def _is_empty(outputs: list[Tensor]) -> bool:
    """Return whether outputs say little of what was computed: nothing was detected, say."""
    return any(x.numel() == 0 for x in outputs)


def _hidden_difference(
    whole: nn.Module, slim: nn.Module, sides: Mapping[str, Sides], run: _Run, exact: bool
) -> str:
    """Return the first module that gives something else, in words; empty if there is none."""
    place = _first_apart(_Watch(whole).outputs(run), _Watch(slim).outputs(run), sides, exact)
    return f"{place} gives something else {run.when}" if place else ""


def _same(first: list[Any], second: list[Any], exact: bool) -> bool:
    return len(first) == len(second) and all(
        _close(a, b, exact) for a, b in zip(first, second, strict=True)
    )


def _close(first: Any, second: Any, exact: bool) -> bool:
    if not isinstance(first, Tensor) or not isinstance(second, Tensor):
        return type(first) is type(second)
    if first.shape != second.shape:
        return False
    first, second = first.double(), second.double()
    scale = float(first.nan_to_num().abs().max()) if first.numel() else 0.0
    tolerance = (1e-7 if exact else 1e-3) * max(scale, 1e-3)
    return torch.allclose(first, second, rtol=0, atol=tolerance, equal_nan=True)


class _Watch:
    """Notes which modules of a model run, and what they give."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.inside: list[str] = []
        self.given: list[tuple[str, Tensor]] = []

    def place(self, run: _Run) -> str:
        """Return the module in which a run fails."""
        with suppress(Exception):  # the same one again
            self.outputs(run)
        return self.inside[-1] if self.inside and self.inside[-1] else "the model itself"

    def outputs(self, run: _Run) -> list[tuple[str, Tensor]]:
        """Return (path, first tensor given) of all modules that run, in order."""
        hooks = []
        for name, module in self.model.named_modules():
            enter, leave = self._hooks(name)
            hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        try:
            run(self.model)
        finally:
            for hook in hooks:
                hook.remove()
        return self.given

    def _hooks(self, name: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def enter(*_: Any) -> None:
            self.inside.append(name)

        def leave(_: Any, __: Any, out: Any) -> None:
            self.inside.pop()
            tensors = list(tensors_in(out))
            self.given += [(name, tensors[0].clone())] if tensors else []

        return enter, leave


def _first_apart(
    whole: list[tuple[str, Tensor]],
    slim: list[tuple[str, Tensor]],
    sides: Mapping[str, Sides],
    exact: bool,
) -> str:
    for (name, expected), (_, given) in zip(whole, slim, strict=False):
        if name and not _close(_kept(expected, given, sides.get(name)), given, exact):
            return name
    return ""


def _kept(expected: Tensor, given: Tensor, side: Sides | None) -> Tensor:
    """Return a masked layer's output without the channels that the slim layer has not."""
    if expected.shape == given.shape or expected.dim() != given.dim():
        return expected
    other = [d for d in range(expected.dim()) if expected.shape[d] != given.shape[d]]
    if len(other) > 1 or side is None or len(side.outputs) != expected.shape[other[0]]:
        return given  # nothing is known of a container's channels
    stays = torch.from_numpy(side.outputs).to(expected.device)
    return expected.movedim(other[0], 0)[stays].movedim(0, other[0])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
