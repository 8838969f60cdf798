"""A teacher is run as far as what is recorded of it, and no further."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from torch import nn

from razorlite.distill.roles import StopRun
from razorlite.structures import Inputs, tensors_of


class Shortened:
    """Calls a model, and from the second time on leaves it where all that is recorded has run.

    The first call runs the whole model and notes in which order its modules end. Later ones stop
    when the first module ends that runs once and ends after everything that is recorded: behind the
    neck for a map of the neck, behind the head for a layer that the head calls on every level.

    Args:
        model: what is called, with images (N, 3, H, W) or other inputs.
        recorded: those of its modules that are recorded; None to run all of it always.
    """

    def __init__(self, model: nn.Module, recorded: Iterable[nn.Module] | None) -> None:
        self._model = model
        self._recorded = None if recorded is None else list(recorded)
        self._last: nn.Module | None = None
        self._watched = False

    def __call__(self, inputs: Inputs) -> None:
        """Run the model as far as it is needed."""
        if self._recorded == []:
            return
        if self._recorded is None or (self._watched and self._last is None):
            self._model(inputs)
        elif self._last is None:
            self._watch(inputs, self._recorded)
        else:
            _run_until(self._last, self._model, inputs)

    def _watch(self, inputs: Inputs, recorded: list[nn.Module]) -> None:
        """Run the whole model and find the module to stop behind; shapes may end it before."""
        ended: list[nn.Module] = []
        with ExitStack() as hooks:
            for module in self._model.modules():
                hooks.callback(module.register_forward_hook(_noting(ended)).remove)
            try:
                self._model(inputs)
            except Exception:
                on_shapes = tensors_of(inputs)[0].device.type == "meta"
                if not on_shapes or not all(module in ended for module in recorded):
                    raise
        self._last, self._watched = _stop_of(ended, recorded, self._model), True


def _noting(ended: list[nn.Module]) -> Callable[[nn.Module, Any, Any], None]:
    return lambda module, args, output: ended.append(module)


def _stop_of(
    ended: list[nn.Module], recorded: list[nn.Module], model: nn.Module
) -> nn.Module | None:
    """Return the first module of those that ended once behind all recorded ones; None for none."""
    places = [i for i, module in enumerate(ended) if module in recorded]
    if not all(module in ended for module in recorded):
        return None  # something did not run; that is told where it is asked for
    once = (m for m in ended[max(places) :] if ended.count(m) == 1)
    found = next(once, None)
    return None if found is model else found


def _run_until(last: nn.Module, model: nn.Module, inputs: Inputs) -> None:
    """Run a model until a module of it has run."""

    def stop(module: nn.Module, args: Any, output: Any) -> None:
        raise StopRun(output)

    handle = last.register_forward_hook(stop)
    try:
        model(inputs)
    except StopRun:
        return
    finally:
        handle.remove()
