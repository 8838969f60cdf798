"""Blocks, decoder layers and queries that go by a budget."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import razorlite
from razorlite.core.errors import BudgetError, ConfigError, SubnetError
from razorlite.cost import count
from razorlite.models.detectors.detr import DETR
from razorlite.models.heads.detr_head import DETRHead
from razorlite.models.necks.channel_mapper import ChannelMapper
from razorlite.models.transformer import DetrDecoder, DetrEncoder
from razorlite.prune import Budget, Channels, Pruner, Stopwatch, Structures, Trial
from razorlite.prune.layer_calls import is_layer
from razorlite.prune.parts import joined, without_parts
from razorlite.prune.structure import Unit
from razorlite.space import Subnet
from razorlite.structures import Target
from tests.trace.test_blocks import WAYS, Block
from tests.trace.zoo import conv

SHAPE = (16, 16)


def chain(blocks=3, width=8):
    """Blocks x + conv(x); what the number i adds is i times as large."""
    torch.manual_seed(0)
    made = [Block(WAYS["sum"], width, width) for _ in range(blocks)]
    for number, block in enumerate(made, 1):
        block.norm = nn.Identity()
        block.conv.weight.data.mul_(number)
    return nn.Sequential(conv(3, width), *made, conv(width, 4)).eval()


class Maps(nn.Module):
    """A backbone of one map."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 8, stride=8), nn.BatchNorm2d(8)

    def forward(self, images):
        return (self.norm(self.conv(images)),)


def detr(**settings):
    torch.manual_seed(0)
    sizes = {"embed_dims": 8, "num_heads": 2, "feedforward_channels": 16, "dropout": 0.0}
    settings = {"num_queries": 10, **settings}
    return DETR(
        backbone=Maps(),
        neck=ChannelMapper(in_channels=[8], out_channels=8, kernel_size=1, num_outs=1),
        encoder=DetrEncoder(num_layers=1, **sizes),
        decoder=DetrDecoder(num_layers=3, **sizes),
        bbox_head=DETRHead(num_classes=2, embed_dims=8),
        **settings,
    ).eval()


class Known(Trial):
    """A trial whose losses are looked up."""

    def __init__(self, loss, scores=()):
        self.loss, self.scores = loss, torch.tensor(scores)

    def query_scores(self, model):
        return self.scores


def test_a_dropped_block_passes_its_input_on():
    model = chain()
    slim = without_parts(model, {"blocks": ("2",)})
    assert isinstance(slim[2], nn.Identity)
    x = torch.randn(2, 3, *SHAPE)
    torch.testing.assert_close(slim(x), model[4](model[3](model[1](model[0](x)))))
    assert isinstance(model[2], Block)


def test_of_several_inputs_the_first_passes_on():
    model = detr()
    slim = without_parts(model, {"blocks": ("decoder.layers.1.cross_attn",)})
    x = torch.randn(1, 10, 8)
    assert slim.decoder.layers[1].cross_attn(x, x + 1, x + 2, x + 3, ignored=None) is x


def test_layers_and_queries_of_a_detr():
    model = detr()
    slim = without_parts(model, {"layers": (1, 2), "queries": (0, 3, 9)})
    assert (slim.num_decoder_layers, slim.num_queries) == (1, 7)
    kept = [1, 2, 4, 5, 6, 7, 8]
    assert torch.equal(slim.query_embedding.weight, model.query_embedding.weight[kept])
    images = torch.randn(2, 3, 32, 32)
    masked = torch.zeros(1, 10, dtype=torch.bool)
    masked[:, [0, 3, 9]] = True
    for layer in model.decoder.layers:  # dropped queries are seen by no other
        layer.self_attn.attn.register_forward_pre_hook(
            lambda _, args, settings: (
                args,
                {**settings, "key_padding_mask": masked.expand(2, -1)},
            ),
            with_kwargs=True,
        )
    for got, whole in zip(slim(images), model(images), strict=True):
        torch.testing.assert_close(got, whole[:1, :, kept])
    assert slim.query_embedding.weight.requires_grad


@pytest.mark.parametrize(
    ("dropped", "message"),
    [
        ({"blocks": ("layer9",)}, "no block 'layer9' to drop"),
        ({"queries": (10,)}, "has 10 queries; cannot drop 1 of them, up to number 10"),
        ({"layers": (0, 1, 2)}, "has 3 layers; cannot drop 3 of them"),
        ({"layers": (0,)}, r"the last of 3 decoder layers can go, from one on; cannot drop \[0\]"),
    ],
)
def test_what_cannot_be_dropped_is_refused(dropped, message):
    with pytest.raises(SubnetError, match=message):
        without_parts(detr(), dropped)
    with pytest.raises(SubnetError, match="has 0 queries"):
        without_parts(chain(), {"queries": (0,)})


def test_two_droppings_are_one():
    counts = {"layers": 4, "queries": 6}
    first = {"blocks": ("a",), "layers": (3,), "queries": (1, 4)}
    second = {"blocks": ("b",), "layers": (2,), "queries": (0, 2)}  # of 0, 2, 3, 5
    expected = {"blocks": ("a", "b"), "layers": (2, 3), "queries": (0, 1, 3, 4)}
    assert joined(first, second, counts) == expected
    assert joined({}, {}, counts) == {}


def test_units_go_in_the_order_of_loss_for_what_they_save():
    model = chain()
    losses = {1: 5.0, 2: 1.0, 3: 3.0}

    def loss(slim):
        gone = [i for i in (1, 2, 3) if isinstance(slim[i], nn.Identity)]
        return sum(losses[i] for i in gone)

    forms = Structures(Channels(model, SHAPE), ["blocks"], Known(loss))
    limits = Pruner(budget=Budget(macs="60%")).goal(model, SHAPE).limits
    found = [form.get("blocks", ()) for form in forms.forms(limits)]
    assert found == [(), ("2",), ("2", "3"), ("2", "3", "1")]
    subnet = Pruner(budget=Budget(macs="60%"), parts=["blocks"], trial=Known(loss)).plan(
        model, SHAPE
    )
    # three blocks of 576 weights and two convolutions of 24 and 32: 1784 for each pixel
    assert subnet.dropped == {"blocks": ("2", "3")}
    assert subnet.cost["macs"] == (24 + 576 + 32) * 256
    assert not subnet.channels


def test_losses_are_divided_by_what_is_saved():
    """The second layer adds more to the loss than the query, and saves much more."""
    model = detr(num_queries=2)

    def loss(slim):
        return 3.0 * (3 - slim.num_decoder_layers) + 1.0 * (2 - slim.num_queries)

    channels = Channels(model, (32, 32))
    forms = Structures(channels, ["layers", "queries"], Known(loss, [0.5, 0.1]))
    forms.channels.cost_of = lambda m, names: {
        "macs": 100 * m.num_decoder_layers + 3 * m.num_queries
    }
    names = forms._order(Pruner(budget=Budget(macs="90%")).goal(channels).limits)
    assert names == [Unit("layers", (2,)), Unit("layers", (1,)), Unit("queries", (1,))]


def test_the_form_with_the_least_loss_is_taken_and_channels_meet_the_rest():
    model, seen = chain(), {}

    def loss(slim):
        gone = sum(isinstance(slim[i], nn.Identity) for i in (1, 2, 3))
        seen[gone] = count(slim, SHAPE).macs
        return {0: 3.0, 1: 1.0, 2: 2.0}.get(gone, 9.0)

    pruner = Pruner(
        budget=Budget(macs="50%"), parts=["channels", "blocks"], trial=Known(loss), round_to=1
    )
    channels = Channels(model, SHAPE)
    subnet = pruner.plan(channels)
    assert len(subnet.dropped["blocks"]) == 1
    assert subnet.channels
    slim = channels.slim(subnet)
    assert count(slim, SHAPE).macs == subnet.cost["macs"] <= channels.cost.whole["macs"] / 2
    assert count(slim, SHAPE).params == subnet.cost["params"]
    assert all(macs <= channels.cost.whole["macs"] for macs in seen.values())
    assert 3 not in seen or seen[3] <= channels.cost.whole["macs"] / 2


class Milliseconds:
    """A timer: 2 ms, and a microsecond for 100 MACs; layers of 3 x 3 take ten times as long."""

    def __init__(self):
        self.conditions = {"runtime": "arithmetic", "threads": 1, "batch": 1}
        self.calls = 0

    def opened(self, model):
        macs = count(model, SHAPE).modules
        layers = [(macs[path].macs, m) for path, m in model.named_modules() if is_layer(m)]
        times = [n / 1e5 * (10 if m.kernel_size == (3, 3) else 1) for n, m in layers]
        return lambda: 2 + sum(times)

    def opened_layer(self, layer, inputs):
        slow = 10 if layer.kernel_size == (3, 3) else 1
        macs = count(layer, (inputs,)).macs
        return lambda: macs / 1e5 * slow

    def in_turns(self, runs, rounds=None):
        self.calls += 1
        return {name: [run()] * 3 for name, run in runs.items()}


def timed_chain():
    """Two blocks of as many MACs, the first of which takes a tenth of the second's time."""
    model = chain(2)
    model[1].conv = nn.Sequential(conv(8, 36), conv(36, 8))
    return Channels(model, SHAPE), Stopwatch(model, Milliseconds())


def gone(slim):
    return float(sum(isinstance(slim[i], nn.Identity) for i in (1, 2)))


@pytest.mark.parametrize(("limited", "first"), [("macs", "1"), ("latency_ms", "2")])
def test_parts_go_by_what_is_limited(limited, first):
    channels, watch = timed_chain()
    budget = Budget(**{limited: "60%"})
    pruner = Pruner(budget=budget, parts=["blocks"], trial=Known(gone), stopwatch=watch)
    subnet = pruner.plan(channels)
    assert subnet.dropped == {"blocks": (first,)}
    slim = channels.slim(subnet)
    if limited == "latency_ms":
        whole = 2 + (24 + 576 + 5760 + 32) * 256 / 1e5
        assert subnet.cost["latency_ms"] == pytest.approx(watch.timer.opened(slim)())
        assert subnet.cost["latency_ms"] == pytest.approx(whole - 5760 * 256 / 1e5)
        assert "layer_time" not in subnet.cost


def test_parts_and_channels_meet_several_limits_one_of_them_of_milliseconds():
    channels, watch = timed_chain()

    def loss(slim):
        return abs(gone(slim) - 1)  # least where one block goes

    settings = {"parts": ["channels", "blocks"], "round_to": 1, "per": "latency"}
    budget = Budget(latency_ms="80%", macs="40%")
    subnet = Pruner(budget=budget, stopwatch=watch, trial=Known(loss), **settings).plan(channels)
    slim = channels.slim(subnet)
    assert len(subnet.dropped["blocks"]) == 1
    assert subnet.channels
    assert count(slim, SHAPE).macs == subnet.cost["macs"] <= 0.4 * channels.cost.whole["macs"]
    assert watch.beside(slim).share <= 0.8


def test_what_was_timed_is_counted_of_forms_as_of_slim_models():
    channels, watch = timed_chain()
    timed = channels.timed(watch.layers)
    assert "layer_time" not in channels.cost.whole
    calls = watch.timer.calls
    for dropped in ({}, {"blocks": ("1",)}, {"blocks": ("1", "2")}):
        left = timed.without(dropped)
        assert timed.cost_of(left.model) == left.cost.whole
    assert timed.cost.whole["layer_time"] == (24 + 576 + 5760 + 32) * 256 * 10_000
    assert watch.timer.calls == calls + 1  # the layers of all forms at once


def test_a_budget_that_parts_do_not_reach():
    pruner = Pruner(budget=Budget(macs="1%"), parts=["blocks"], trial=Known(lambda _: 0.0))
    with pytest.raises(BudgetError, match="the model has 14,336 macs; let channels go, too"):
        pruner.plan(chain(), SHAPE)
    with pytest.raises(BudgetError, match="14,336 macs"):
        Pruner(budget=Budget(macs="1%"), parts=["blocks"]).check(Channels(chain(), SHAPE))
    Pruner(budget=Budget(macs="5%"), parts=["blocks"]).check(Channels(chain(), SHAPE))


def test_what_goes_by_losses_wants_them_and_what_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="give trial=razorlite"):
        Pruner(budget=Budget(macs="50%"), parts=["blocks"]).plan(chain(), SHAPE)
    with pytest.raises(ConfigError, match=r"parts wants some of channels, .*, got \['heads'\]"):
        Pruner(budget=Budget(macs="50%"), parts=["heads"])
    for parts in (["queries"], ["channels", "queries"]):
        with pytest.raises(ConfigError, match="Sequential has no queries that can be dropped"):
            Structures(Channels(chain(), SHAPE), parts, None).check_kinds()
    pruner = Pruner(budget=Budget(macs="50%"), parts=["queries"], trial=Known(lambda _: 0.0))
    with pytest.raises(ConfigError, match="Sequential has no queries that can be dropped"):
        pruner.plan(chain(), SHAPE)


def pruned(model, example, **settings):
    channels = Channels(model, example)
    settings = {"parts": ["channels", "blocks"], "round_to": 1, **settings}
    return channels, Pruner(budget=Budget(macs="60%"), **settings).plan(channels)


def test_a_model_of_ones_own_is_pruned_twice_and_loads_back(tmp_path):
    def loss(model, batch):
        return (model(batch.inputs) - batch.targets).square().mean()

    images = torch.randn(2, 3, *SHAPE)
    whole = chain()
    batch = SimpleNamespace(inputs=images, targets=whole(images).detach())
    trial = Trial([batch], loss=loss)
    channels, first = pruned(whole, SHAPE, trial=trial)
    slim = channels.slim(first)
    again, second = pruned(slim, SHAPE, trial=trial)
    slimmer = again.slim(second)
    assert first.dropped
    assert second.dropped
    for number, subnet in enumerate((first, second)):
        subnet.save(tmp_path / f"{number}.yaml")
        assert Subnet.load(tmp_path / f"{number}.yaml") == subnet
    files = [tmp_path / "0.yaml", tmp_path / "1.yaml"]
    loaded = razorlite.load_slim(chain(), files, slimmer.state_dict(), example=SHAPE)
    assert torch.equal(loaded(images), slimmer(images))
    both = channels.slim(channels.composed(first, second))
    torch.testing.assert_close(both(images), slimmer(images))
    assert count(both, SHAPE).macs == second.cost["macs"]


def test_trial_takes_the_loss_of_the_last_decoder_layer_with_norms_calibrated():
    model = detr()
    target = Target(boxes=torch.tensor([[4.0, 4, 20, 24]]), labels=torch.tensor([1]))
    batch = SimpleNamespace(inputs=torch.randn(2, 3, 32, 32), targets=[target, target])
    before = {name: x.clone() for name, x in model.state_dict().items()}
    found = Trial([batch, batch]).loss(model)
    again = detr().eval()
    norms = [m for m in again.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        again(batch.inputs)
        losses = again.eval().loss(batch.inputs, batch.targets)
    expected = sum(float(losses[name]) for name in ("loss_cls", "loss_bbox", "loss_iou"))
    assert found == pytest.approx(expected, rel=1e-4)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    scores = Trial([batch]).query_scores(model)
    expected = model(batch.inputs)[0][-1].softmax(-1)[..., :-1].amax(-1).mean(0)
    torch.testing.assert_close(scores.float(), expected)


def test_masks_refuse_dropped_blocks():
    with pytest.raises(SubnetError, match="masks hide channels; the subnet drops blocks, too"):
        Channels(chain(), SHAPE).masks(Subnet(dropped={"blocks": ("1",)}))
