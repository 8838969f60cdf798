"""The contract of a training step, and the plain one."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.registry import register

Backward = Callable[[Tensor], None]
Metrics = Mapping[str, Tensor | float]
StepFunction = Callable[[nn.Module, Any, Backward], Metrics]


class Step:
    """What happens between a batch and the gradients.

    A step computes losses, calls `backward(loss)` once or several times (gradients add up) and
    returns metrics for the log, best as 0-dim tensors left on the device: a GPU runs dry wherever
    one is read as a number. All else is optional: by default a step knows no numbers, trains
    nothing beside the model and has no state. A module may be one: `class Mine(nn.Module, Step)`.

    Attributes:
        adds_losses: whether it calls `backward` with more than the model's own losses, which a step
            around it must not leave out.
    """

    adds_losses: ClassVar[bool] = False

    def begin(self, step: int) -> None:
        """Tell the number of the optimiser step that comes, from 0."""

    def __call__(self, model: nn.Module, batch: Any, backward: Backward) -> Metrics:
        """Compute losses of a batch and call `backward`; return metrics for the log."""
        raise NotImplementedError

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield what is trained beside the model, by name."""
        yield from ()

    def statistics(self) -> Iterator[Tensor]:
        """Yield floating buffers beside the model's that processes keep apart and average, too."""
        yield from ()

    def state_dict(self) -> dict[str, Any]:
        """Return what checkpoints keep of the step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """Restore what `state_dict` returned."""


class WrappingStep(Step):
    """A step around another one; does what that does until it is overridden.

    Args:
        base_step: the step inside.
    """

    def __init__(self, base_step: Step | StepFunction) -> None:
        self.base_step = as_step(base_step)

    def begin(self, step: int) -> None:
        """Tell the number of the optimiser step that comes, from 0."""
        self.base_step.begin(step)

    def __call__(self, model: nn.Module, batch: Any, backward: Backward) -> Metrics:
        """Run the step inside."""
        return self.base_step(model, batch, backward)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield what the step inside trains, as `base.…`."""
        for name, parameter in self.base_step.named_parameters():
            yield f"base.{name}", parameter

    def statistics(self) -> Iterator[Tensor]:
        """Yield those of the step inside."""
        yield from self.base_step.statistics()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the step inside as `base`; nothing if it has none."""
        state = self.base_step.state_dict()
        return {"base": state} if state else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.base_step.load_state_dict(state.get("base", {}))


class FunctionStep(Step):
    """A function as a step.

    Args:
        function: takes (model, batch, backward) and returns metrics for the log.
    """

    def __init__(self, function: StepFunction) -> None:
        self.function = function

    def __call__(self, model: nn.Module, batch: Any, backward: Backward) -> Metrics:
        """Call the function."""
        return self.function(model, batch, backward)


@register()
class PlainStep(Step):
    """Trains on the sum of `model.loss(batch.inputs, batch.targets)`."""

    def __call__(self, model: nn.Module, batch: Any, backward: Backward) -> Metrics:
        """Call `backward` once.

        Returns:
            The losses by name, and their sum as `loss`.
        """
        losses = model.loss(batch.inputs, batch.targets)  # type: ignore[operator]
        total = torch.stack([value.float() for value in losses.values()]).sum()
        backward(total)
        return metrics_of(losses, total)


plain_step = PlainStep()


def as_step(step: Step | StepFunction) -> Step:
    """Return a step as it is, and a function as a step.

    Raises:
        ConfigError: it is an object of another kind, whose parameters and state would be lost.
    """
    if isinstance(step, Step):
        return step
    if inspect.isroutine(step) or isinstance(step, functools.partial):
        return FunctionStep(step)
    raise ConfigError(
        f"a training step is a function or a razorlite.engine.steps.Step, got "
        f"{type(step).__name__}; derive it from Step"
    )


def metrics_of(losses: Mapping[str, Tensor], total: Tensor) -> dict[str, Tensor]:
    """Return losses and their total by name: 0-dim, without gradient, still on the device."""
    values = torch.stack([total, *losses.values()]).detach().float().unbind()
    return dict(zip(["loss", *losses], values, strict=True))
