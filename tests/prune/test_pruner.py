"""Budgets, rounding and allocation."""

import itertools

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from razorlite.core.config import build, load
from razorlite.core.errors import BudgetError, ConfigError
from razorlite.cost import Limit, count
from razorlite.prune import (
    Budget,
    Channels,
    L1Importance,
    PruneConfig,
    Pruner,
    RandomImportance,
    SlimCost,
    apply,
    polynomial_schedule,
)
from razorlite.space.subnet import Subnet
from razorlite.trace import channel_graph
from tests.prune.known import channels_of, slow
from tests.trace.zoo import Net, conv, stirred

SHAPE = (64, 64)


@pytest.fixture(scope="module")
def resnet():
    """A residual network with one block a stage."""
    return stirred(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10).eval())


def plan(model, shape=SHAPE, **kwargs):
    kwargs = {"budget": Budget(macs="50%"), **kwargs}
    return Pruner(**kwargs).plan(model, shape)


@pytest.mark.parametrize(
    ("name", "budget", "allocation", "round_to"),
    [
        ("mobilenet_v2", {"params": "75%"}, "uniform", 8),
        ("fcos_resnet18", {"macs": "40%"}, "uniform", 16),  # its group norms hold 2 channels
        ("fcos_shufflenet", {"macs": "70%"}, "global", 8),
        slow("retinanet_resnet18", {"params": "50%"}, "global", 4),
        slow("spos_mobilenet", {"macs": "75%"}, "global", 1),
        ("rtmdet", {"macs": "60%"}, "global", 8),
        slow("rtmdet", {"params": "35%"}, "uniform", 8),
        ("faster_rcnn", {"macs": "70%"}, "global", 8),
        slow("faster_rcnn", {"params": "50%"}, "uniform", 16),
    ],
)
def test_budget_is_met_cost_is_exact_and_channels_are_rounded(name, budget, allocation, round_to):
    channels = channels_of(name)
    model = channels.model
    subnet = plan(channels, budget=Budget(**budget), allocation=allocation, round_to=round_to)
    pruned = channels.cut(subnet)
    slim, whole = count(pruned, SHAPE), count(model, SHAPE)
    assert subnet.cost == {"macs": slim.macs, "params": slim.params}
    (kind, share) = next(iter(budget.items()))
    limit = getattr(whole, kind) * int(share[:-1]) / 100
    assert limit * 0.9 <= getattr(slim, kind) <= limit
    for (path, old), new in zip(model.named_modules(), pruned.modules(), strict=True):
        if isinstance(old, nn.Conv2d) and old.out_channels % round_to == 0:
            assert new.out_channels % round_to == 0, path


def test_cost_of_any_kept_units_equals_a_count():
    known = channels_of("fcos_resnet18")
    graph, cost = known.graph, known.cost
    generator = torch.Generator().manual_seed(0)
    for keep in (0.2, 0.9):
        kept = (torch.rand(graph.size, generator=generator) < keep).numpy()
        channels, start = {}, 0
        for group in graph.prunable:
            kept[start] = True
            part = kept[start : start + group.size]
            channels[group.name] = tuple(i for i in range(group.size) if part[i])
            start += group.size
        slim = count(known.cut(Subnet(channels=channels)), SHAPE)
        assert cost.of(kept) == {"macs": slim.macs, "params": slim.params}


@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_no_group_can_grow_within_the_budget(allocation, resnet):
    subnet = plan(resnet, allocation=allocation)
    limit = count(resnet, SHAPE).macs * 0.5
    channels = Channels(resnet, SHAPE)
    groups, cost = channels.graph.prunable, channels.cost
    kept = torch.cat(
        [torch.isin(torch.arange(g.size), torch.tensor(subnet.channels[g.name])) for g in groups]
    ).numpy()
    start = 0
    assert cost.of(kept)["macs"] <= limit
    for group in groups:
        dropped = [start + i for i in range(group.size) if not kept[start + i]]
        if dropped:
            grown = kept.copy()
            grown[dropped[:8]] = True
            assert cost.of(grown)["macs"] > limit
        start += group.size


def joined():
    """Layers of 12 and 20 channels, added side by side to one of 32."""
    return Net(
        lambda m, x: m.d(m.c(x) + torch.cat([m.a(x), m.b(x)], 1)),
        a=conv(3, 12),
        b=conv(3, 20),
        c=conv(3, 32),
        d=conv(32, 8),
    )


@pytest.mark.parametrize("share", ["90%", "80%", "60%", "50%"])
def test_layers_joined_in_one_group_have_floors_rounding_and_scales_of_their_own(share):
    model = joined()
    with torch.no_grad():
        model.a.weight.mul_(1e-3)
        model.c.weight[:12].mul_(1e-3)
    slim = apply(model, plan(model, (8, 8), budget=Budget(macs=share)), shape=(8, 8))
    assert slim.c.out_channels % 8 == 0
    # 12 loses 8 at most, 20 loses 8 or 16: so 32 loses a multiple of 8
    assert slim.a.out_channels in (4, 12)
    assert slim.b.out_channels in (4, 12, 20)
    if share == "50%":
        assert slim.a.out_channels == 4
        assert slim.b.out_channels < 20


def test_least_share_is_kept_of_each_joined_layer():
    model = joined()
    subnet = plan(model, (8, 8), budget=Budget(macs="60%"), min_keep=0.5, round_to=1)
    slim = apply(model, subnet, shape=(8, 8))
    assert slim.a.out_channels >= 6
    assert slim.b.out_channels >= 10


def test_uniform_keeps_the_same_share_of_each_group(resnet):
    subnet = plan(resnet, allocation="uniform", round_to=1)
    sizes = {g.name: g.size for g in channel_graph(resnet, SHAPE).prunable}
    shares = [len(kept) / sizes[name] for name, kept in subnet.channels.items()]
    assert max(shares) - min(shares) < 1.5 / min(sizes.values())


def test_least_share_is_kept(resnet):
    subnet = plan(resnet, budget=Budget(macs="40%"), min_keep=0.5, round_to=1)
    sizes = {g.name: g.size for g in channel_graph(resnet, SHAPE).prunable}
    assert all(len(kept) >= sizes[name] / 2 for name, kept in subnet.channels.items())


def test_least_important_channels_go():
    model = nn.Sequential(conv(3, 4, bias=False), nn.ReLU(), conv(4, 1))
    with torch.no_grad():
        for i, value in enumerate([0.5, 3.0, 0.1, 2.0]):
            model[0].weight[i] = value
    assert plan(model, (8, 8), round_to=1).channels == {"0": (1, 3)}


def test_ignored_modules_keep_their_channels():
    channels = channels_of("fcos_resnet18")
    model = channels.model
    subnet = plan(channels, budget=Budget(macs="70%"), ignore=["neck.*", "backbone.layer1*"])
    slim = channels.slim(subnet)
    for name, layer in slim.named_modules():
        if name.startswith(("neck", "backbone.layer1")) and isinstance(layer, nn.Conv2d):
            assert layer.out_channels == model.get_submodule(name).out_channels
    assert slim.bbox_head.cls_convs[0].conv.out_channels < 64


def test_allocation_is_as_good_as_trying_everything():
    model = nn.Sequential(conv(3, 6, 3), nn.ReLU(), conv(6, 8, 3), nn.ReLU(), conv(8, 1))
    whole = count(model, (8, 8)).macs
    cost = SlimCost(model, channel_graph(model, (8, 8)), (8, 8))
    costs = plan(model, (8, 8), round_to=1).cost["macs"]

    def macs(a, b):
        kept = torch.tensor([i < a for i in range(6)] + [i < b for i in range(8)]).numpy()
        return cost.of(kept)["macs"]

    below = [m for a, b in itertools.product(range(1, 7), range(1, 9)) if (m := macs(a, b))]
    best = max(m for m in below if m <= whole / 2)
    assert best * 0.8 <= costs <= best


def test_both_limits_hold(resnet):
    subnet = plan(resnet, budget=Budget(macs="70%", params="30%"))
    whole = count(resnet, SHAPE)
    assert subnet.cost["macs"] <= 0.7 * whole.macs
    assert subnet.cost["params"] <= 0.3 * whole.params


def test_amounts_as_numbers_text_and_ranges(resnet):
    whole = count(resnet, SHAPE).macs
    assert plan(resnet, budget=Budget(macs=whole // 2)).cost["macs"] <= whole // 2
    assert plan(resnet, budget=Budget(params="2M")).cost["params"] <= 2e6
    low = plan(resnet, budget=Budget(macs=["45%", "50%"])).cost["macs"]
    assert 0.45 * whole <= low <= 0.5 * whole
    everything = plan(resnet, budget=Budget(macs="100%"))
    assert everything.cost["macs"] == whole


@pytest.mark.parametrize("written", ["50%", 0.5, Budget(macs="50%"), Budget(macs=0.5)])
def test_a_share_may_be_a_number_and_a_bare_amount_is_of_macs(written):
    limits = PruneConfig(budget=written).pruner().budget.limits({"macs": 400, "params": 10})
    assert limits == [Limit("macs", 0.0, 200.0)]


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"macs": "120%", "params": "1G"}, "is above what the whole model costs"),
        ({"macs": 1000}, r"budget macs <= 1,000 cannot be met: pruning reaches [\d,]+ to [\d,]+"),
        ({"params": "1%"}, r"lower min_keep or round_to, or ignore less"),
        ({"macs": ["80%", "20%"]}, "is more than the most"),
        ({"macs": ["49.9999%", "50%"]}, "nearest that can be kept"),
        ({"params": ["200%", None]}, "above the most"),
    ],
)
def test_impossible_budget_names_the_reachable_range(budget, message, resnet):
    with pytest.raises(BudgetError, match=message) as caught:
        plan(resnet, budget=Budget(**budget))
    assert "\n" not in str(caught.value)


def test_named_range_is_the_reachable_one(resnet):
    with pytest.raises(BudgetError) as caught:
        plan(resnet, budget=Budget(macs=1))
    low = int(str(caught.value).split("reaches ")[1].split(" to ")[0].replace(",", ""))
    assert plan(resnet, budget=Budget(macs=low)).cost["macs"] == low
    with pytest.raises(BudgetError):
        plan(resnet, budget=Budget(macs=low - 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": Budget()}, "limits nothing"),
        ({"budget": Budget(macs=[1, 2, 3])}, "the most allowed or"),
        ({"round_to": 0}, "round_to >= 1"),
        ({"min_keep": 2.0}, "min_keep in 0 to 1"),
        ({"allocation": "gloabl"}, "local or uniform"),
        ({"ignore": ["layr1.*"]}, r"no module matches 'layr1\.\*'; did you mean"),
        ({"leaves": ["layr1"]}, r"leaves: no module matches 'layr1'; did you mean 'layer1'"),
        ({"importance": "L1"}, r"an importance such as L1Importance\(\), got .* and 'L1'"),
        ({"budget": "50%"}, r"wants budget=Budget\(macs='50%'\)"),
    ],
)
def test_wrong_settings_are_one_line(settings, message, resnet):
    with pytest.raises(ConfigError, match=message):
        plan(resnet, **settings)


@pytest.mark.parametrize("amount", ["lots", "50x", [1, "50 %%"], -1])
def test_amounts_that_cannot_be_read_are_refused_at_once(amount):
    with pytest.raises(ConfigError, match=r"budget\.macs wants"):
        Budget(macs=amount)


def test_model_without_prunable_channels():
    with pytest.raises(BudgetError, match="nothing to prune"):
        plan(nn.Sequential(conv(3, 4)), (8, 8))


def test_modules_outside_forward_are_warned_of(caplog):
    model = Net(lambda m, x: m.b(m.a(x)), a=conv(3, 8), b=conv(8, 4), aside=conv(4, 4))
    model.scale = nn.Parameter(torch.ones(8))
    plan(model, (8, 8), round_to=1)
    assert "modules not used by forward: 2 (the model itself, aside)" in caplog.text


def test_plan_is_reproducible(resnet):
    first = plan(resnet, importance=RandomImportance(seed=3))
    assert first == plan(resnet, importance=RandomImportance(seed=3))
    assert first.channels != plan(resnet, importance=RandomImportance(seed=4)).channels


def test_block_of_a_configuration(tmp_path):
    path = tmp_path / "prune.yaml"
    path.write_text(
        "budget: {macs: 60%, params: [1M, 90%]}\n"
        "importance: {type: L1Importance, sides: both}\n"
        "round_to: 4\nignore: ['fc']\n"
    )
    config = build(load(path), PruneConfig)
    pruner = config.pruner()
    assert isinstance(pruner.importance, L1Importance)
    assert pruner.importance.sides == ("in", "out")
    assert (pruner.round_to, pruner.ignore, pruner.min_keep) == (4, ("fc",), 0.1)
    path.write_text("budget: {macs: 60%}\n")
    assert isinstance(build(load(path), PruneConfig).pruner().importance, L1Importance)


def test_schedule_falls_to_the_end():
    # 0.5 + 0.5 * (1 - i / 2) ** 3
    assert polynomial_schedule(final=0.5, rounds=2) == [0.5625, 0.5]
    assert polynomial_schedule(final=0.4, rounds=3, power=1) == pytest.approx([0.8, 0.6, 0.4])


def test_rounds_share_one_goal(resnet):
    """What is left after rounds is a share of the first model, and so are the floors."""
    pruner = Pruner(budget=Budget(macs=["50%", "60%"]), min_keep=0.25, round_to=1)
    goal = pruner.goal(resnet, SHAPE)
    whole = count(resnet, SHAPE).macs
    first, last = goal.of_round(1, 2), goal.of_round(2, 2)
    # 0.6 + 0.4 * (1 - 1 / 2) ** 3
    assert first.limits[0].high == pytest.approx(0.65 * whole)
    assert last.limits[0].high == pytest.approx(0.6 * whole)
    assert first.limits[0].low == last.limits[0].low == 0.5 * whole
    slim = apply(resnet, pruner.plan(resnet, SHAPE, first), shape=SHAPE)
    kept = pruner.plan(slim, SHAPE, last)
    assert 0.59 * whole <= kept.cost["macs"] <= 0.6 * whole
    sizes = {g.name: g.size for g in channel_graph(resnet, SHAPE).prunable}
    assert all(len(units) >= sizes[name] / 4 for name, units in kept.channels.items())


def test_little_reach_is_warned_of(caplog):
    model = Net(lambda m, x: m.l(m.b(m.a(x)).softmax(1).flatten(1)), a=conv(3, 4), b=conv(4, 8))
    model.l = nn.Linear(8 * 64, 10)
    plan(model, (8, 8), budget=Budget(params="99.9%"), round_to=1)
    assert "pruning reaches only 1 % of the parameters" in caplog.text
    assert "b (mixed over channels by softmax" in caplog.text


@pytest.mark.parametrize("hook", [lambda m, i, o: o.flip(1), lambda m, i, o: o.softmax(1)])
def test_a_layer_with_hooks_is_named(hook):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1))
    model[0].register_forward_hook(hook)
    with pytest.raises(BudgetError, match=r"nothing to prune.*0: has hooks"):
        Pruner(budget=Budget(macs="50%"), round_to=1).plan(model, (8, 8))
