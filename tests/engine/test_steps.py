"""Steps: what they do by default, wrapping, and functions in their place."""

import functools

import pytest
import torch
from torch import nn

from razorlite.core.errors import ConfigError
from razorlite.engine.steps import (
    FunctionStep,
    PlainStep,
    Step,
    WrappingStep,
    as_step,
    plain_step,
)
from razorlite.structures import Batch
from tests.engine.toys import Toy


def test_a_step_has_no_state_and_no_parameters_of_its_own():
    step = PlainStep()
    step.begin(3)
    assert list(step.named_parameters()) == []
    assert step.state_dict() == {}
    step.load_state_dict({})


def test_the_plain_step_trains_on_the_sum():
    class Two(Toy):
        def loss(self, images, targets):
            fit = super().loss(images, targets)["loss_fit"]
            return {"loss_fit": fit, "loss_more": 2 * fit}

    model, batch = Two(), Batch(torch.randn(4, 3), torch.randn(4))
    seen = []
    metrics = plain_step(model, batch, seen.append)
    fit = model.loss(*(batch.images, batch.targets))["loss_fit"]
    assert seen[0].item() == pytest.approx(3 * fit.item())
    assert list(metrics) == ["loss", "loss_fit", "loss_more"]
    assert metrics["loss"] == pytest.approx(3 * metrics["loss_fit"])


class Counting(nn.Module, Step):
    """A module that is a step: its parameters and state are those of the module."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.number = -1

    def begin(self, step):
        self.number = step

    def forward(self, model, batch, backward):
        return {"number": self.number}


def test_a_wrapping_step_passes_everything_on():
    inner = Counting()
    step = WrappingStep(WrappingStep(inner))
    step.begin(7)
    assert step(nn.Identity(), None, None) == {"number": 7}
    [(name, parameter)] = step.named_parameters()
    assert name == "base.base.scale"
    assert parameter is inner.scale
    state = step.state_dict()
    assert list(state["base"]["base"]) == ["scale"]
    other = WrappingStep(WrappingStep(Counting()))
    other.base_step.base_step.scale.data.fill_(5.0)
    other.load_state_dict(state)
    assert other.base_step.base_step.scale.item() == 1.0
    assert WrappingStep(plain_step).state_dict() == {}


def test_functions_are_steps_and_other_objects_are_refused():
    def step(model, batch, backward, more=0):
        return {"more": more}

    assert as_step(plain_step) is plain_step
    assert isinstance(as_step(step), FunctionStep)
    assert as_step(functools.partial(step, more=2))(None, None, None) == {"more": 2}

    class Alike:
        """Has state that nobody would save."""

        def __call__(self, model, batch, backward):
            return {}

        def state_dict(self):
            return {"number": 1}

    with pytest.raises(ConfigError, match="got Alike; derive it from Step") as caught:
        as_step(Alike())
    assert "\n" not in str(caught.value)
