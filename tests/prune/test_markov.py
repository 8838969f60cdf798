"""Widths as Markov chains, learnt in turns with the weights."""

import itertools
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from razorlite.core.errors import BudgetError, CheckpointError, ConfigError
from razorlite.cost import tabulate
from razorlite.prune import ChannelWidths, MarkovStep
from razorlite.prune.markov import Chains, Gates, expected_cost
from razorlite.space import OneOf, SearchSpace
from razorlite.structures import Batch

SHAPE = (4, 4)


class Net(nn.Module):
    """A residual block with a depthwise convolution, and a loss."""

    def __init__(self):
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)
        self.inner = nn.Conv2d(8, 12, 1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.outer = nn.Conv2d(12, 8, 1)
        self.fc = nn.Linear(8, 3)

    def forward(self, images):
        x = torch.relu(self.bn(self.stem(images)))
        x = x + self.outer(torch.relu(self.depthwise(self.inner(x))))
        return self.fc(x.mean((2, 3)))

    def loss(self, images, labels):
        return {"loss_cls": nn.functional.cross_entropy(self(images), labels)}


def space():
    torch.manual_seed(0)
    return ChannelWidths(round_to=4, shares=[0.5, 0.7]).prepare(Net(), SHAPE)


@cache
def costs_of_all():
    return tabulate(space(), SHAPE)


def batch():
    images = torch.rand(4, 3, *SHAPE, generator=torch.Generator().manual_seed(1))
    return Batch(images, torch.tensor([0, 1, 2, 0]))


def make_step(found=None, **settings):
    found = found or space()
    costs = costs_of_all()
    known = {"costs": costs, "ends": (costs.largest(), costs.smallest()), "total_steps": 10}
    return MarkovStep(found, **{**known, "budget": "60%", "start": 0.0, **settings})


def test_chains_start_even_and_multiply_transitions():
    chains = Chains(space())
    assert chains.names == ("stem.width", "inner.width")
    assert [list(values) for values in chains.values] == [[4, 8], [4, 8, 12]]
    assert_close(chains.probabilities()[1], torch.full((3,), 1 / 3))
    assert_close(chains.expected(), np.array([6.0, 8.0]), atol=1e-6, rtol=0)
    with torch.no_grad():  # goes on from 4 with 0.8, from 8 with 0.25: 0.2, 0.8 * 0.75, 0.8 * 0.25
        chains.transitions[1].copy_(torch.tensor([0.8, 0.25]).logit())
    assert_close(chains.probabilities()[1], torch.tensor([0.2, 0.6, 0.2]))
    assert_close(chains.expected()[1], 0.8 + 4.8 + 2.4, atol=1e-6, rtol=0)


def test_draws_follow_the_probabilities():
    chains = Chains(space())
    with torch.no_grad():
        chains.transitions[1].copy_(torch.tensor([0.8, 0.25]).logit())
    rng = np.random.default_rng(0)
    drawn = np.array([chains.drawn(rng) for _ in range(400)])
    assert_close(np.bincount(drawn[:, 1]) / 400, np.array([0.2, 0.6, 0.2]), atol=0.08, rtol=0)


def test_the_expected_cost_is_the_mean_over_all_points():
    found = space()
    costs, chains = costs_of_all(), Chains(found)
    with torch.no_grad():
        chains.transitions[0].fill_(0.7)
        chains.transitions[1].copy_(torch.tensor([0.4, -1.0]))
    shares = chains.by_index()
    points = np.array(list(itertools.product(range(2), range(3))))
    weights = [(shares[0][a] * shares[1][b]).item() for a, b in points]
    for kind in ("macs", "params"):
        slow = float(np.dot(weights, costs.many(points)[kind]))
        assert expected_cost(costs, kind, shares).item() == pytest.approx(slow, rel=1e-5)


def test_gates_of_certain_widths_are_those_of_the_slim_model():
    # nothing but what is read is masked: in evaluation mode the path computes the same
    found = space()
    found.model.eval()
    gates, names = Gates(found), [d.name for d in found.dimensions]
    for point in found.all_indices():
        certain = [torch.eye(count)[i] for count, i in zip(found.counts, point, strict=True)]
        found.select(found.decode([1, 2]))
        with gates.on(certain):
            masked = found.model(batch().inputs)
        found.select(found.decode(point))
        assert_close(masked, found.model(batch().inputs), msg=f"{names} {point}")
    found.select(found.decode([1, 2]))
    assert not any(m._forward_pre_hooks for m in found.model.modules())


def test_weights_and_chains_learn_in_turns():
    step = make_step(start=0.2)
    model, chains = step.space.model, list(step.chains.transitions)
    turns = []
    for number in range(6):
        step.begin(number)
        for parameter in (*model.parameters(), *chains):
            parameter.grad = None
        metrics = step(model, batch(), lambda loss: loss.backward())
        learnt = [any(p.grad is not None for p in group) for group in (model.parameters(), chains)]
        turns.append(tuple(learnt))
        assert set(metrics) == {"loss", "loss_cls", "expected_macs"}
    assert turns == [(True, False)] * 3 + [(False, True), (True, False), (False, True)]
    assert all(parameter.requires_grad for parameter in model.parameters())


def free(model, batch, backward):
    """A step in which nothing but the budget counts."""
    backward(torch.zeros(()))
    return {"loss": 0.0}


def learnt(budget, steps=25):
    step = make_step(budget=budget, weight=1.0, base_step=free)
    optimizer = torch.optim.Adam([p for _, p in step.named_parameters()], lr=0.3)
    for number in range(1, 2 * steps, 2):
        step.begin(number)
        optimizer.zero_grad()
        step(step.space.model, batch(), lambda loss: loss.backward())
        optimizer.step()
    return step


@pytest.mark.parametrize("budget", ["45%", "75%"])
def test_the_expected_cost_goes_to_the_budget(budget):
    step = learnt(budget)
    assert torch.equal(step.space.model.fc.weight, space().model.fc.weight)
    cost = expected_cost(step.costs, "macs", step.chains.by_index()).item()
    assert cost == pytest.approx(step.budget, rel=0.1)
    assert step.costs(step.target)["macs"] <= step.budget


def test_the_target_has_the_nearest_widths_that_fit():
    step = make_step(budget="100%")
    with torch.no_grad():
        step.chains.transitions[0].fill_(-9)
        step.chains.transitions[1].copy_(torch.tensor([9.0, -9.0]))
    assert dict(step.target.choices) == {"stem.width": 4, "inner.width": 8}
    with torch.no_grad():  # 5 and 9 are expected: 4 is nearer to 5, and 8 to 9
        step.chains.transitions[0].copy_(torch.tensor([0.25]).logit())
        step.chains.transitions[1].copy_(torch.tensor([0.75, 2 / 3]).logit())
    assert dict(step.target.choices) == {"stem.width": 4, "inner.width": 8}
    step.budget = step.costs(step.target)["macs"] - 1  # the width that is over most cannot shrink
    assert dict(step.target.choices) == {"stem.width": 4, "inner.width": 4}


def test_resumed_chains_draw_what_they_did():
    step = learnt("50%", steps=5)
    other = make_step(budget="50%")
    other.load_state_dict(step.state_dict())
    for one in (step, other):
        one.begin(8)
    assert other.paths == step.paths
    assert other.target == step.target
    with pytest.raises(CheckpointError, match=r"chains are of other widths .* \(stem.width\)"):
        other.load_state_dict({"chains": {}})


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"kind": "mac"}, ConfigError, "kind 'mac' is none of the costs macs, params"),
        ({"total_steps": None}, ConfigError, "needs a training of known length"),
        ({"budget": "1%"}, BudgetError, "MarkovStep.budget wants macs from .* got"),
        ({"budget": "many"}, ConfigError, "MarkovStep.budget.macs"),
    ],
)
def test_wrong_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        make_step(**settings)


def test_words_are_refused():
    words = SearchSpace(nn.Sequential(OneOf(choices={"a": nn.ReLU()}, space_id="op")))
    with pytest.raises(ConfigError, match=r"learns numbers of channels; dimension 'op' has words"):
        Chains(words)
