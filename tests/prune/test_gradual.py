"""Pruning while training, and penalties before it: by hand, and resumed."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.cost import count
from razorlite.prune import (
    Budget,
    Channels,
    GradualStep,
    GroupFisherImportance,
    L1Importance,
    Pruner,
    SparseStep,
)
from razorlite.structures import Batch
from tests.prune.odd_modules import pair
from tests.prune.test_data_importance import by_hand, step
from tests.trace.zoo import conv

SHAPE = (4, 4)


def chain():
    torch.manual_seed(0)
    return nn.Sequential(
        conv(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), conv(6, 8, 3), nn.ReLU(), conv(8, 2)
    )


def gradual(model, *, importance=None, macs="50%", every=2, round_to=1, **settings):
    channels = Channels(model, SHAPE)
    pruner = Pruner(
        budget=Budget(macs=macs),
        importance=importance or GroupFisherImportance(),
        round_to=round_to,
        per=settings.pop("per", "memory"),
        **{k: settings.pop(k) for k in ("ignore", "min_keep") if k in settings},
    )
    goal = pruner.goal(channels)
    return GradualStep(channels, pruner=pruner, goal=goal, every=every, base_step=step, **settings)


def train(model, part, numbers, seed=0):
    """Train by plain descent; each step has its own batch."""
    for number in numbers:
        part.begin(number)
        torch.manual_seed(1000 * seed + number)
        part(model, Batch(torch.randn(2, 3, *SHAPE)), lambda loss: loss.backward())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 1e-3 * parameter.grad
                parameter.grad = None


def test_one_channel_goes_every_few_steps_and_none_below_the_budget():
    model = chain()
    part, seen = gradual(model), []
    limit = part.goal.limits[0].high
    for number in range(18):
        train(model, part, [number])
        seen.append((int(part.kept.sum()), part.channels.cost.of(part.kept)["macs"]))
    counts = [count for count, _ in seen]
    assert counts[:6] == [14, 14, 13, 13, 12, 12]
    first = next(i for i, (_, macs) in enumerate(seen) if macs <= limit)
    assert seen[first - 1][1] > limit  # not one channel more than it takes
    assert set(seen[first:]) == {seen[first]}
    kept = part.subnet()
    assert count(part.channels.slim(kept), SHAPE).macs == kept.cost["macs"] == seen[-1][1]


def test_masked_channels_are_as_good_as_gone():
    model = chain()
    part = gradual(model)
    train(model, part, range(16))
    assert part.finished
    x = torch.randn(2, 3, *SHAPE)
    model.eval()
    with torch.no_grad():
        masked = model(x)
    kept = part.subnet().channels
    assert sum(map(len, kept.values())) < 14
    slim = part.channels.slim(part.subnet())
    with torch.no_grad():
        assert_close(slim(x), masked)


def test_the_least_of_all_groups_goes():
    """Of the two channels by hand, a mask's gradients are 24 and -16: the second one goes."""
    model = by_hand()
    channels = Channels(model, (torch.zeros(1, 1, 1, 1),))
    pruner = Pruner(budget=Budget(params=2), importance=GroupFisherImportance(), round_to=1)
    part = GradualStep(channels, pruner=pruner, goal=pruner.goal(channels), every=1, base_step=step)
    part.begin(0)
    part(model, Batch(torch.full((1, 1, 1, 1), 2.0)), lambda loss: loss.backward())
    part.begin(1)
    assert part.kept.tolist() == [True, False]
    assert part.subnet().channels == {"a": (0,)}


def test_resumed_equals_uninterrupted():
    whole = chain()
    part = gradual(whole, every=3)
    train(whole, part, range(11))
    first = chain()
    early = gradual(first, every=3)
    train(first, early, range(7))
    second = chain()
    second.load_state_dict(first.state_dict())
    late = gradual(second, every=3)
    late.load_state_dict(early.state_dict())
    train(second, late, range(7, 11))
    assert np.array_equal(late.kept, part.kept)
    for a, b in zip(whole.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert late.subnet() == part.subnet()


def test_what_training_has_not_come_to_goes_at_its_end(caplog):
    model = chain()
    part = gradual(model, every=100)
    train(model, part, range(2))
    kept = part.subnet()
    assert kept.cost["macs"] <= part.goal.limits[0].high
    assert "training ended before the budget was met" in caplog.text


def test_rounding_floors_ignored_and_importance_of_weights():
    model = chain()
    part = gradual(
        model, importance=L1Importance(), per="none", every=1, round_to=2, ignore=["0"], macs="70%"
    )
    train(model, part, range(8))
    kept = part.subnet().channels
    assert len(kept["0"]) == 6
    assert len(kept["3"]) in (2, 4)


def test_channels_that_change_what_the_model_computes_stay(caplog):
    torch.manual_seed(0)
    model = pair(lambda m, x: m.b(m.c(m.a(x) / m.a.out_channels)), c=conv(16, 16))
    part = gradual(model, importance=L1Importance(), per="none", every=1, drop=4, macs="70%")
    assert "pruning leaves the channels of a alone" in caplog.text
    train(model, part, range(4))
    kept = part.subnet()
    assert len(kept.channels["a"]) == 16
    assert kept.cost["macs"] <= part.goal.limits[0].high
    part.channels.slim(kept)  # compares


def test_penalty_of_norms_by_hand():
    model = nn.Sequential(conv(3, 2), nn.BatchNorm2d(2), conv(2, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.5, -0.25]))
    part = SparseStep(Channels(model, SHAPE), weight=0.1, base_step=lambda *_: {})
    metrics = part(model, None, lambda loss: loss.backward())
    assert_close(float(metrics["penalty"]), 0.75)
    assert_close(model[1].weight.grad, torch.tensor([0.1, -0.1]))
    assert model[0].weight.grad is None


def test_group_lasso_by_hand():
    model = by_hand()
    channels = Channels(model, (torch.zeros(1, 1, 1, 1),))
    part = SparseStep(channels, weight=1.0, penalty="group", base_step=lambda *_: {})
    metrics = part(model, None, lambda loss: loss.backward())
    # two weights each: sqrt(2) (sqrt(1 + 9) + sqrt(4 + 1))
    assert_close(float(metrics["penalty"]), 2**0.5 * (10**0.5 + 5**0.5))
    assert_close(float(model.a.weight.grad[1]), 2**0.5 * -2 / 5**0.5)


def test_no_norm_to_penalise_is_refused():
    with pytest.raises(ConfigError, match="take penalty: group"):
        SparseStep(Channels(nn.Sequential(conv(3, 4), conv(4, 2)), SHAPE))
