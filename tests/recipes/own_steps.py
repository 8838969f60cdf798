"""Steps as a user would write them, named in configurations by their dotted path."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from razorlite import recipes
from razorlite.engine.steps import Metrics, Step, WrappingStep, plain_step
from razorlite.space import SearchSpace
from tests.engine.toys import assert_same
from tests.recipes.runs import last


class Stopped(Exception):
    """Raised in the middle of a run."""


class LearntFactor(WrappingStep):
    """Multiplies the losses by a factor that is trained, and counts its calls."""

    stop_at: ClassVar[int | None] = None

    def __init__(
        self, *, start: float, seed: int, total_steps: int, base_step: Step = plain_step
    ) -> None:
        super().__init__(base_step)
        self.factor = nn.Parameter(torch.tensor(start))
        self.seed, self.total_steps, self.calls = seed, total_steps, 0

    def begin(self, step: int) -> None:
        if step == type(self).stop_at:
            raise Stopped
        super().begin(step)

    def __call__(self, model: nn.Module, batch: Any, backward: Any) -> Metrics:
        self.calls += 1
        losses = super().__call__(model, batch, lambda loss: backward(self.factor * loss))
        return {**losses, "factor": self.factor.item(), "calls": float(self.calls)}

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield "factor", self.factor
        yield from super().named_parameters()

    def state_dict(self) -> dict[str, Any]:
        return {"factor": self.factor.detach(), "calls": self.calls, **super().state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.factor.data.copy_(state["factor"])
        self.calls = state["calls"]
        super().load_state_dict(state)


class Penalised(WrappingStep):
    """Adds a loss to those of the model."""

    adds_losses = True


def stop_and_resume(config: Path, folder: Path) -> None:
    """Train to folder/whole, and to folder/run with a stop in between, to one end.

    The configuration has a `LearntFactor` among its steps.
    """
    recipes.train(config, folder / "whole")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LearntFactor, "stop_at", 2)
        with pytest.raises(Stopped):
            recipes.train(config, folder / "run")
    recipes.train(config, folder / "run", resume=True)
    assert_same(last(folder / "run"), last(folder / "whole"))


class Innermost(Step):
    """Wraps nothing; may know a space."""

    def __init__(self, *, space: SearchSpace | None = None) -> None:
        self.space = space

    __call__ = staticmethod(plain_step)  # type: ignore[assignment]


class Demanding(Step):
    """Wants what nobody gives."""

    def __init__(self, *, moon: object) -> None:
        self.moon = moon
