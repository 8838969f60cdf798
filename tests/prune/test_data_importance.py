"""Importance from gradients: by hand, and against slow loops over images and masks."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.prune import (
    Channels,
    GroupFisherImportance,
    HessianImportance,
    TaylorImportance,
)
from razorlite.structures import Batch
from tests.trace.zoo import Net, conv


def step(model, batch, backward):
    """The mean over images of the mean square of the outputs."""
    outputs = model(batch.inputs)
    flat = [x.flatten(1) for x in (outputs if isinstance(outputs, tuple) else (outputs,))]
    loss = torch.cat(flat, 1).square().sum(1).mean()
    backward(loss)
    return {"loss": loss.detach()}


def shared_head():
    """Two levels that one head reads, a depth-wise convolution, a sum, and a linear layer."""
    torch.manual_seed(0)
    return Net(
        lambda m, x: (m.head(m.up(x)), m.head(m.down(m.dw(m.up(x))) + m.side(x))),
        up=conv(3, 4, 3),
        dw=conv(4, 4, 3, groups=4),
        down=nn.Conv2d(4, 4, 3, stride=2, padding=1),
        side=nn.Conv2d(3, 4, 3, stride=2, padding=1),
        head=conv(4, 2),
    )


def attention():
    torch.manual_seed(0)
    return Net(
        lambda m, x: m.out(m.second(torch.relu(m.first(x.flatten(2).transpose(1, 2))))),
        first=nn.Linear(3, 5),
        second=nn.Linear(5, 4),
        out=nn.Linear(4, 2),
    )


def slow_fisher(channels, batch):
    """One image at a time, by masks that learn."""
    totals = {}
    for i in range(len(batch)):
        factors = {g.name: torch.ones(g.size, requires_grad=True) for g in channels.graph.prunable}
        with channels.masks() as masks:
            masks.set(factors)
            one = Batch(batch.inputs[i : i + 1])
            step(channels.model, one, lambda loss: (loss / len(batch)).backward())
        for name, factor in factors.items():
            totals[name] = totals.get(name, 0) + factor.grad.double().square()
    return totals


@pytest.mark.parametrize("make", [shared_head, attention])
def test_fisher_is_that_of_a_loop_over_images(make):
    model = make()
    batch, channels = Batch(torch.randn(3, 3, 8, 8)), Channels(model, (8, 8))
    groups = channels.graph.prunable
    assert groups
    fisher = GroupFisherImportance()
    fisher.accumulate(model, groups, batch, step=step)
    expected, found = slow_fisher(channels, batch), fisher(model, groups)
    for group in groups:
        assert_close(found[group.name], expected[group.name], rtol=1e-4, atol=1e-9)
        assert (found[group.name] > 0).all()


@pytest.mark.parametrize("importance", [GroupFisherImportance, TaylorImportance, HessianImportance])
def test_scale_of_the_loss_does_not_matter_and_batches_are_averaged(importance):
    model = shared_head()
    groups = Channels(model, (8, 8)).graph.prunable
    batches = [Batch(torch.randn(2, 3, 8, 8)) for _ in range(2)]
    alone = []
    for batch in batches:
        one = importance(scale="none")
        one.accumulate(model, groups, batch, step=step)
        alone.append(one(model, groups))
    both = importance(scale="none")
    for batch, factor in zip(batches, (1.0, 1024.0), strict=True):
        both.accumulate(
            model, groups, batch, step=step, backward=lambda x, f=factor: (f * x).backward()
        )
    again = importance(scale="none")
    again.load_state_dict(both.state_dict())
    for name, value in again(model, groups).items():
        assert_close(value, (alone[0][name] + alone[1][name]) / 2, rtol=1e-5, atol=1e-12)


def by_hand(inputs=1):
    """a makes two channels by weights 1, -2 of each input; c reads them by 3 and 1."""
    model = Net(lambda m, x: m.c(m.a(x)), a=conv(inputs, 2, bias=False), c=conv(2, 1, bias=False))
    with torch.no_grad():
        model.a.weight[:, :, 0, 0] = torch.tensor([[1.0], [-2.0]])
        model.c.weight[0, :, 0, 0] = torch.tensor([3.0, 1.0])
    return model


def groups_of(model, inputs=1):
    return Channels(model, (torch.zeros(1, inputs, 1, 1),)).graph.prunable


@pytest.mark.parametrize(
    ("importance", "expected"),
    [
        # y = (3 * 1 - 2) x = x; loss y ** 2; d loss / d a = 2 y (3, 1) x, / d c = 2 y (1, -2) x
        # with x = 2: gradients of a are 8 (3, 1), of c 8 (1, -2); times weights 24, -16 each
        (TaylorImportance(scale="none"), [48.0, 32.0]),
        (TaylorImportance(scale="none", sides="out"), [24.0, 16.0]),
        (HessianImportance(scale="none"), [576.0, 256.0]),
        # the mask of a channel: 2 y c a x = 24, -16
        (GroupFisherImportance(), [576.0, 256.0]),
    ],
)
def test_by_hand(importance, expected):
    model = by_hand()
    groups = groups_of(model)
    importance.accumulate(model, groups, Batch(torch.full((1, 1, 1, 1), 2.0)), step=step)
    assert_close(importance(model, groups)["a"].tolist(), expected)


@pytest.mark.parametrize("importance", [TaylorImportance, HessianImportance])
def test_groups_are_compared_by_what_the_loss_loses(importance):
    """A layer whose output hardly counts goes before one whose output does."""
    model = Net(lambda m, x: m.c(m.a(x)) + m.d(m.b(x)), **{n: conv(1, 2) for n in "ab"},
                **{n: conv(2, 1) for n in "cd"})  # fmt: skip
    with torch.no_grad():
        for layer in (model.a, model.b, model.c):
            layer.weight.fill_(1.0)
        model.d.weight.fill_(0.01)
    measure, groups = importance(), groups_of(model)
    measure.accumulate(model, groups, Batch(torch.ones(1, 1, 1, 1)), step=step)
    found = measure(model, groups)
    assert float(found["b"].max()) < 0.05 * float(found["a"].min())


def test_joint_products_cancel():
    model = by_hand(2)
    groups = groups_of(model, 2)
    scores = []
    for joint in (False, True):
        taylor = TaylorImportance(scale="none", sides="out", joint=joint)
        x = torch.tensor([2.0, -1.0]).reshape(1, 2, 1, 1)
        taylor.accumulate(model, groups, Batch(x), step=step)
        scores.append(taylor(model, groups)["a"])
    # y = 1; 2 y (3, 1) (2, -1) times (1, -2): 12 and -6; -8 and 4
    assert_close(scores[0].tolist(), [18.0, 12.0])
    assert_close(scores[1].tolist(), [6.0, 4.0])


def test_without_a_batch_it_says_what_to_do():
    model = by_hand()
    with pytest.raises(ConfigError, match="has seen no batch for a; call accumulate"):
        TaylorImportance()(model, groups_of(model))


def test_what_no_gradient_reaches_stays(caplog):
    model = by_hand().requires_grad_(False)
    groups = groups_of(model)
    batch, taylor = Batch(torch.ones(1, 1, 1, 1, requires_grad=True)), TaylorImportance()
    taylor.accumulate(model, groups, batch, step=step)
    assert taylor(model, groups)["a"].isinf().all()
    assert "no gradient came to the channels of a" in caplog.text
    fisher = GroupFisherImportance()
    fisher.accumulate(model, groups, Batch(torch.ones(1, 1, 1, 1)), step=step)
    assert fisher(model, groups)["a"].isfinite().all()


def test_a_batch_that_is_not_finite_counts_for_nothing():
    model = by_hand()
    groups = groups_of(model)
    taylor = TaylorImportance()
    for value in (1.0, float("nan")):
        taylor.accumulate(model, groups, Batch(torch.full((1, 1, 1, 1), value)), step=step)
    assert taylor(model, groups)["a"].isfinite().all()
    assert taylor.state_dict()["count"] == 1
