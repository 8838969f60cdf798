"""One face for groups, plans, slim models and masks."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from razorlite.core.errors import BudgetError, SubnetError
from razorlite.cost import Limit, count
from razorlite.prune import Budget, Channels, L1Importance, Pruner, RandomImportance, apply, mask
from razorlite.space.subnet import Subnet
from razorlite.trace import channel_graph
from tests.prune.known import channels_of, slow
from tests.prune.odd_modules import PRUNED
from tests.prune.test_slim import MODELS, assert_same, outputs, random_subnet
from tests.trace.zoo import Net, conv, stirred

SHAPE = (64, 64)


@pytest.fixture(scope="module")
def channels():
    return channels_of("resnet18")


def test_graph_is_plain_data(channels):
    text = json.dumps(asdict(channels.graph))
    assert '"name": "layer1.0.conv1", "size": 64' in text
    assert channels.graph == channel_graph(channels.model, SHAPE)


def test_plan_by_hand():
    model = nn.Sequential(conv(3, 4, bias=False), nn.ReLU(), conv(4, 1))
    channels = Channels(model, (8, 8))
    whole = channels.cost.whole["macs"]
    scores = {"0": torch.tensor([0.5, 3.0, 0.1, 2.0])}
    assert channels.plan(scores, [Limit("macs", 0, 0.5 * whole)]).channels == {"0": (1, 3)}
    assert channels.plan(scores, [Limit("macs", 0, 0.8 * whole)]).channels == {"0": (0, 1, 3)}


def test_nothing_to_plan():
    with pytest.raises(BudgetError, match="nothing to prune"):
        Channels(nn.Sequential(conv(3, 4)), (8, 8)).plan({}, [])


def test_all_jobs_read_the_model_once(monkeypatch):
    reads = []
    monkeypatch.setattr(
        "razorlite.prune.channels.channel_graph",
        lambda *args, **kwargs: reads.append(args) or channel_graph(*args, **kwargs),
    )
    model = stirred(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10).eval())
    channels = Channels(model, SHAPE)
    pruner = Pruner(budget=Budget(macs="60%"))
    plan = pruner.plan(channels, goal=pruner.goal(channels))
    slim = channels.slim(plan)
    slim.load_state_dict(channels.slim_weights(plan))
    again = pruner.plan(channels.slim_channels(slim, plan))
    assert len(reads) == 1
    assert plan == pruner.plan(model, SHAPE)
    assert again.cost["macs"] < 0.6 * plan.cost["macs"]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "fcos_shufflenet", "rtmdet"])
def test_groups_of_a_slim_model_are_found_without_reading_it(name):
    channels = channels_of(name)
    subnet = random_subnet(channels)
    slim = channels.slim(subnet)
    assert channels.slim_channels(slim, subnet).graph == channel_graph(slim, SHAPE)


def test_groups_of_one_unit_cannot_shrink_further():
    model = Net(
        lambda m, x: m.c(m.b(m.a(x).relu()).relu()), a=conv(3, 4), b=conv(4, 4), c=conv(4, 2)
    )
    channels = Channels(model.eval(), (8, 8))
    subnet = Subnet(channels={"a": (2,), "b": (0, 1, 3)})
    slim = channels.slim(subnet)
    known, read = channels.slim_channels(slim, subnet), Channels(slim, (8, 8))
    assert [group.name for group in known.graph.prunable] == ["b"]
    assert known.graph.fingerprint == read.graph.fingerprint
    assert known.graph.layers == read.graph.layers
    assert known.slim(Subnet(channels={"b": (0, 2)})).b.weight.shape[:2] == (2, 1)


@pytest.mark.parametrize(
    "name", [slow("resnet18"), "mobilenet_v2", slow("fcos_shufflenet"), "rtmdet"]
)
def test_masks_in_place_compute_what_the_slim_model_does(name):
    channels = channels_of(name)
    whole, state = outputs(channels.model), channels.model.state_dict()
    first, second = random_subnet(channels, 0), random_subnet(channels, 1)
    with channels.masks(first) as masks:
        assert_same(outputs(channels.model), outputs(channels.slim(first)))
        masks.keep(second)
        assert_same(outputs(channels.model), outputs(channels.slim(second)))
        slim = channels.cut(first)
    assert_same(outputs(channels.model), whole)
    assert all(torch.equal(state[k], v) for k, v in channels.model.state_dict().items())
    assert not any(m._forward_pre_hooks for x in (channels.model, slim) for m in x.modules())


@pytest.mark.parametrize("what", MODELS)
def test_masks_of_small_models(what):
    model = stirred(MODELS[what]().eval())
    channels = Channels(model, (8, 8))
    subnet = random_subnet(model, shape=(8, 8))
    with channels.masks(subnet):
        masked = outputs(model, shape=(8, 8))
    assert_same(masked, outputs(channels.slim(subnet), shape=(8, 8)))


def test_factors_scale_and_learn():
    model = nn.Sequential(conv(3, 4), conv(4, 1))
    masks = Channels(model, (8, 8)).masks()
    factors = torch.tensor([1.0, 0.0, 0.5, 2.0], requires_grad=True)
    masks.set({"0": factors})
    x = torch.rand(1, 3, 8, 8)
    y = model(x)
    with torch.no_grad():
        h = model[0](x) if not masks.remove() else None
        expected = model[1](h * factors[None, :, None, None])
    torch.testing.assert_close(y, expected)
    y.sum().backward()
    gradient = (h * model[1].weight.detach()).sum((0, 2, 3))
    torch.testing.assert_close(factors.grad, gradient)


@pytest.mark.parametrize(
    ("factors", "message"),
    [({"1": torch.ones(1)}, "no channel group '1' can shrink"), ({"0": torch.ones(3)}, "takes 4")],
)
def test_factors_that_do_not_fit(factors, message):
    masks = Channels(nn.Sequential(conv(3, 4), conv(4, 1)), (8, 8)).masks()
    with pytest.raises(SubnetError, match=message):
        masks.set(factors)


def test_functions_are_shorthands(channels):
    subnet = random_subnet(channels)
    slim = apply(channels.model, subnet, shape=SHAPE)
    assert_same(outputs(slim), outputs(channels.slim(subnet)))
    masked = mask(channels.model, subnet, shape=SHAPE)
    assert_same(outputs(masked), outputs(channels.masked(subnet)))


def test_scores_of_a_plan_are_those_of_the_importance(channels):
    groups = channels.graph.prunable
    for importance in (L1Importance(), RandomImportance()):
        scores = importance(channels.model, groups)
        limits = [Limit("macs", 0, 0.5 * channels.cost.whole["macs"])]
        plan = channels.plan(scores, limits)
        for group in groups:
            kept = np.array(plan.channels[group.name])
            rest = np.setdiff1d(np.arange(group.size), kept)
            assert not len(rest) or scores[group.name][kept].min() >= scores[group.name][rest].max()
    assert count(channels.slim(plan), SHAPE).macs == plan.cost["macs"]


def test_masks_refuse_other_subnets(channels):
    with pytest.raises(SubnetError, match="no channel group"):
        channels.masks(Subnet(channels={"stem": (0,)}))
    assert not any(m._forward_pre_hooks for m in channels.model.modules())


def test_subnets_stay_valid_where_more_groups_are_found_to_shrink():
    model = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 6), nn.ReLU(), conv(6, 1))
    channels = Channels(model, (8, 8))
    before = channels.graph.fingerprint_of(["2"])
    old = Subnet(channels={"2": (0, 1, 4)}, origin={"groups": before})
    assert before != channels.graph.fingerprint
    assert channels.slim(old)[2].out_channels == 3
    with pytest.raises(SubnetError, match="other channel groups"):
        channels.slim(Subnet(channels={"0": (0, 1)}, origin={"groups": before}))


def test_cost_of_bare_parameters_is_exact():
    torch.manual_seed(0)
    model = PRUNED["position embedding"]()
    channels = Channels(model, (8, 8))
    plan = Pruner(budget=Budget(params="60%"), round_to=1).plan(channels)
    slim = channels.slim(plan)
    cost = count(slim, (8, 8))
    assert plan.cost == {"macs": cost.macs, "params": cost.params}
    assert slim.p.shape == (1, 64, slim.o.in_features)
    assert isinstance(slim.p, nn.Parameter)
    assert slim.o.in_features < 16
    again = channels.slim_channels(slim, plan)
    assert again.graph == channel_graph(slim, (8, 8))
