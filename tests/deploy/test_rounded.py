"""Training as in 8 bits: the rounding, its gradients, what stays, and what export takes of it."""

import copy

import pytest
import torch
from torch import nn, tensor
from torch.testing import assert_close

from razorlite.deploy import QuantisedStep
from razorlite.deploy.rounded import ranges_in, round_input, round_weight


def test_weights_are_rounded_channel_by_channel():
    weight = tensor([[1.27, 0.004, -0.006], [12.7, 0.04, -12.7]])
    expected = tensor([[1.27, 0.0, -0.01], [12.7, 0.0, -12.7]])
    assert_close(round_weight(weight), expected, atol=1e-6, rtol=0)
    assert_close(round_weight(weight.T, axis=1), expected.T, atol=1e-6, rtol=0)


def test_inputs_are_rounded_to_256_values_and_zero_is_one():
    value = tensor([-2.0, -1.0, 0.0, 0.004, 0.007, 1.55, 9.0], requires_grad=True)
    rounded = round_input(value, tensor([-1.0, 1.55]))
    assert_close(rounded, tensor([-1.0, -1.0, 0.0, 0.0, 0.01, 1.55, 1.55]), atol=1e-6, rtol=0)
    rounded.sum().backward()
    assert_close(value.grad, tensor([0.0, 1, 1, 1, 1, 1, 0]))


class Sums(nn.Module):
    """Two layers; the loss is the sum of what they give."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1)

    def forward(self, images):
        return self.last(self.first(images))


def plain(model, batch, backward):
    loss = model(batch).sum()
    backward(loss)
    return {"loss": loss.detach()}


def backward(loss):
    loss.backward()


def test_a_step_sees_rounded_layers_and_leaves_exact_ones():
    torch.manual_seed(0)
    model = Sums()
    before, order = copy.deepcopy(model.state_dict()), list(model.state_dict())
    step = QuantisedStep(skip=["last"], base_step=plain)
    batch = torch.rand(2, 1, 4, 4) * 3 - 1
    found = step(model, batch, backward)["loss"]
    ends = torch.stack((batch.min(), batch.max()))
    inner = nn.functional.conv2d(
        round_input(batch, ends), round_weight(model.first.weight), model.first.bias
    )
    assert_close(found, model.last(inner).sum().detach())
    assert list(model.state_dict()) == order
    assert all(before[name].equal(value) for name, value in model.state_dict().items())
    assert isinstance(model.first.weight, nn.Parameter)
    assert model.first.weight.grad is not None
    assert not model.first._forward_pre_hooks
    assert_close(step.ranges["first"], ends)
    assert list(step.ranges) == ["first"]


def test_ranges_move_and_are_resumed():
    step = QuantisedStep(skip=["last"], momentum=0.5, base_step=plain)
    model = Sums()
    for greatest in (1.0, 3.0):
        step(model, torch.full((1, 1, 2, 2), greatest), backward)
    assert_close(step.ranges["first"], tensor([0.0, 2.0]))
    again = QuantisedStep()
    again.load_state_dict(copy.deepcopy(step.state_dict()))
    assert ranges_in({"base": again.state_dict()}) == {"first": (0.0, 2.0)}
    assert ranges_in(None) == ranges_in({"base": {}}) == {}


def test_a_layer_that_several_levels_share_sees_the_range_of_all():
    class Shared(Sums):
        def forward(self, images):
            return self.first(images) + self.first(images * 2 - 3)

    step = QuantisedStep(base_step=plain)
    step(Shared(), torch.ones(1, 1, 2, 2), backward)
    assert_close(step.ranges["first"], tensor([-1.0, 1.0]))


def test_exact_weights_come_back_after_a_fault():
    model = Sums()
    with pytest.raises(RuntimeError):
        QuantisedStep(base_step=plain)(model, torch.rand(1, 5, 2, 2), backward)
    assert isinstance(model.first.weight, nn.Parameter)
    assert not model.first._forward_pre_hooks
