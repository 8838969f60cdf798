"""Slim models compute what the masked models compute, and are plain models."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_leaves

from razorlite.core.errors import ExportError, SubnetError
from razorlite.cost import count
from razorlite.prune import Budget, Channels, Pruner, RandomImportance, apply, compose, mask
from razorlite.space.subnet import Subnet
from razorlite.trace import channel_graph
from tests.prune.known import channels_of, slow
from tests.trace.zoo import OWN, TORCHVISION, Net, conv, joined, shuffled, stirred

SHAPE = (64, 64)


def random_subnet(model, seed=0, keep=0.5, shape=SHAPE):
    """Units kept at random, without any rounding; at least one in each layer."""
    rng = np.random.default_rng(seed)
    graph = model.graph if isinstance(model, Channels) else channel_graph(model, shape)
    channels = {}
    for group in graph.prunable:
        kept = rng.random(group.size) < keep
        kept[rng.integers(group.size)] = False
        for member in group.members:
            units = np.unique([i for i in member.index if i >= 0])
            kept[rng.choice(units)] |= not kept[units].any()
        channels[group.name] = tuple(np.flatnonzero(kept).tolist())
    return Subnet(channels=channels)


def outputs(model, count=2, shape=SHAPE):
    images = torch.randn(count, 3, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return tree_leaves(model(images))


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(a.abs().max() + 1))


# Slow where another has the same kinds of layers.
ALIKE = {"resnet50", "retinanet_resnet18", "classifier", "spos_shufflenet", "fcos_resnet18"}


@pytest.mark.parametrize("name", [slow(n) if n in ALIKE else n for n in (*TORCHVISION, *OWN)])
def test_slim_equals_masked_for_any_kept_units(name):
    channels = channels_of(name)
    subnet = random_subnet(channels)
    slim = channels.slim(subnet)
    assert_same(outputs(channels.masked(subnet)), outputs(slim))
    assert count(slim, SHAPE).params < count(channels.model, SHAPE).params


@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x1_0", "fcos_resnet18"])
def test_slim_equals_model_with_dropped_activations_zeroed(name):
    """Hooks set dropped channels to zero behind every layer; the activations map 0 to 0."""
    channels = channels_of(name)
    subnet = random_subnet(channels)
    slim, zeroed = channels.slim(subnet), copy.deepcopy(channels.model)
    for group in channels.graph.prunable:
        kept = torch.zeros(group.size + 1, dtype=torch.bool)
        kept[[*subnet.channels[group.name], -1]] = True
        for member in group.members:
            if member.side == "out":
                stays = kept[list(member.index)][None, :, None, None]
                layer = zeroed.get_submodule(member.module)
                layer.register_forward_hook(lambda m, x, y, stays=stays: y * stays)
    assert_same(outputs(zeroed), outputs(slim))


def test_dead_channels_prune_for_free():
    channels = channels_of("resnet18")
    model, subnet = channels.model, random_subnet(channels)
    for path, layer in channels.masked(subnet).named_modules():
        if isinstance(layer, nn.BatchNorm2d | nn.Conv2d):
            _kill(model.get_submodule(path), layer)
    assert_same(outputs(model), outputs(channels.slim(subnet)))


def _kill(layer, masked):
    """Make what the masked layer has dropped dead in its outputs; the readers keep theirs."""
    dead = masked.weight.flatten(1).abs().sum(1) == 0 if masked.weight.dim() > 1 else None
    dead = masked.weight == 0 if dead is None else dead
    with torch.no_grad():
        layer.weight[dead] = 0
        if layer.bias is not None:
            layer.bias[dead] = 0


MODELS = {
    "few groups": lambda: nn.Sequential(conv(3, 8), conv(8, 6, groups=2), conv(6, 2)),
    "many groups": lambda: nn.Sequential(conv(3, 8), conv(8, 8, groups=4), conv(8, 2)),
    "multiplier": lambda: nn.Sequential(conv(3, 4), conv(4, 8, 3, groups=4), conv(8, 2)),
    "transposed": lambda: nn.Sequential(
        conv(3, 8),
        nn.ConvTranspose2d(8, 8, 2, 2, groups=2),
        nn.ConvTranspose2d(8, 4, 2),
        conv(4, 2),
    ),
    "depthwise transposed": lambda: nn.Sequential(
        conv(3, 8), nn.ConvTranspose2d(8, 8, 2, 2, groups=8), conv(8, 2)
    ),
    "group norm": lambda: nn.Sequential(conv(3, 12), nn.GroupNorm(4, 12), nn.ReLU(), conv(12, 2)),
    "instance norm": lambda: nn.Sequential(
        conv(3, 8), nn.InstanceNorm2d(8, affine=True), nn.PReLU(8), conv(8, 2)
    ),
    "sigmoid": lambda: nn.Sequential(conv(3, 8), nn.Sigmoid(), conv(8, 2)),
    "flatten": lambda: nn.Sequential(
        conv(3, 8), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(32, 9), nn.Linear(9, 2)
    ),
    "pixel shuffle": lambda: nn.Sequential(
        conv(3, 16), nn.PixelShuffle(2), conv(4, 4), nn.PixelUnshuffle(2), conv(16, 2)
    ),
    "cat into norm": lambda: Net(
        lambda m, x: m.c(m.n(torch.cat([m.a(x), m.b(x), m.a(x)], 1)).relu()),
        a=conv(3, 4),
        b=conv(3, 6),
        n=nn.BatchNorm2d(14),
        c=conv(14, 2),
    ),
    "stack": lambda: Net(
        lambda m, x: m.c(torch.stack([m.a(x), m.b(x)], 2).amax(2)),
        a=conv(3, 6),
        b=conv(3, 6),
        c=conv(6, 2),
    ),
    "levels side by side": lambda: Net(
        lambda m, x: m.l(torch.cat([m.a(x).flatten(2), m.b(x).flatten(2)], 2).transpose(1, 2)),
        a=conv(3, 6),
        b=conv(3, 6),
        l=nn.Linear(6, 2),
    ),
    "excitation": lambda: Net(
        lambda m, x: m.b(m.a(x) * m.up(m.down(F.adaptive_avg_pool2d(m.a(x), 1)).relu()).sigmoid()),
        a=conv(3, 8),
        down=conv(8, 4),
        up=conv(4, 8),
        b=conv(8, 2),
    ),
    "one gate for all": lambda: Net(
        lambda m, x: m.b(m.a(x) * m.g(m.a(x)).sigmoid()), a=conv(3, 8), g=conv(8, 1), b=conv(8, 2)
    ),
    "three of four chunks": lambda: Net(
        lambda m, x: m.b(joined(m.a(x).chunk(4, 1)[1:], 3)), a=conv(3, 12), b=conv(9, 2)
    ),
    "first half": lambda: Net(
        lambda m, x: m.b(m.a(x)[:, : m.a(x).size(1) // 2]), a=conv(3, 8), b=conv(4, 2)
    ),
    "space to depth": lambda: Net(
        lambda m, x: m.b(torch.cat([m.a(x)[..., ::2, ::2], m.a(x)[..., 1::2, 1::2]], 1)),
        a=conv(3, 6),
        b=conv(12, 2),
    ),
    "repeated and flipped": lambda: Net(
        lambda m, x: m.b(m.a(x).repeat(1, 2, 1, 1).flip(1)), a=conv(3, 6), b=conv(12, 2)
    ),
    "depthwise over a cat": lambda: Net(
        lambda m, x: m.b(m.d(torch.cat([m.a(x), m.c(x)], 1))),
        a=conv(3, 4),
        c=conv(3, 6),
        d=conv(10, 10, 3, groups=10),
        b=conv(10, 2),
    ),
    "group norm over a cat": lambda: Net(
        lambda m, x: m.b(m.n(torch.cat([m.a(x), m.c(x)], 1))),
        a=conv(3, 4),
        c=conv(3, 8),
        n=nn.GroupNorm(6, 12),
        b=conv(12, 2),
    ),
    "where": lambda: Net(
        lambda m, x: m.b(torch.where(m.a(x) > 0, m.a(x), m.c(x))),
        a=conv(3, 6),
        c=conv(3, 6),
        b=conv(6, 2),
    ),
    "tokens": lambda: Net(
        lambda m, x: m.o(m.i(m.a(x).flatten(2).transpose(1, 2)).relu()),
        a=conv(3, 6),
        i=nn.Linear(6, 8),
        o=nn.Linear(8, 2),
    ),
    **{f"shuffle by {how}": lambda how=how: shuffled(how) for how in ("view", "module")},
}


@pytest.mark.parametrize("what", MODELS)
def test_small_models_stay_equal_and_shrink(what):
    model = stirred(MODELS[what]().eval())
    shape = (8, 8)
    for seed in range(3):
        subnet = random_subnet(model, seed, shape=shape)
        slim = apply(model, subnet, shape=shape)
        masked = mask(model, subnet, shape=shape)
        assert_same(outputs(masked, shape=shape), outputs(slim, shape=shape))
        assert count(slim, shape).macs < count(model, shape).macs


def test_layers_say_what_they_are():
    model = nn.Sequential(
        conv(3, 8, groups=1),
        nn.BatchNorm2d(8),
        conv(8, 8, 3, groups=8),
        nn.GroupNorm(4, 8),
        nn.Flatten(),
        nn.Linear(8 * 16, 2),
    )
    slim = apply(model, Subnet(channels={"0": (0, 3)}), shape=(4, 4))
    assert (slim[0].in_channels, slim[0].out_channels, slim[0].weight.shape[0]) == (3, 4, 4)
    assert slim[1].num_features == len(slim[1].running_mean) == 4
    assert (slim[2].groups, slim[2].in_channels, slim[2].out_channels) == (4, 4, 4)
    assert (slim[3].num_groups, slim[3].num_channels) == (2, 4)
    assert (slim[5].in_features, slim[5].out_features) == (4 * 16, 2)
    assert torch.equal(slim[0].weight, model[0].weight[[0, 1, 6, 7]])


def test_slim_model_keeps_kinds_and_settings():
    model = nn.Sequential(conv(3, 4, 3), conv(4, 4, 3), conv(4, 1)).half()
    model = model.to(memory_format=torch.channels_last)
    model[0].requires_grad_(False)
    slim = apply(model, Subnet(channels={"0": (1, 2), "1": (0, 3)}), shape=(8, 8))
    assert not slim[0].weight.requires_grad
    assert slim[1].weight.requires_grad
    assert slim[1].weight.dtype == torch.float16
    assert slim[1].weight.is_contiguous(memory_format=torch.channels_last)


def test_original_is_untouched_and_shares_nothing():
    channels = channels_of("mobilenet_v2")
    model, before = channels.model, copy.deepcopy(channels.model.state_dict())
    slim = channels.slim(random_subnet(channels))
    with torch.no_grad():
        for parameter in slim.parameters():
            parameter.zero_()
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_slim_model_trains_and_every_parameter_learns():
    channels = channels_of("resnet18")
    slim = channels.slim(random_subnet(channels)).train()
    slim(torch.randn(2, 3, 64, 64)).square().mean().backward()
    for name, parameter in slim.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.shape == parameter.shape


def test_slim_checkpoint_loads_into_a_fresh_model_and_subnet(tmp_path):
    channels = channels_of("fcos_resnet18")
    subnet = random_subnet(channels)
    slim = channels.slim(subnet)
    torch.save(slim.state_dict(), tmp_path / "slim.pt")
    subnet.save(tmp_path / "subnet.yaml")
    torch.manual_seed(99)
    fresh = apply(OWN["fcos_resnet18"](), Subnet.load(tmp_path / "subnet.yaml"), shape=SHAPE).eval()
    fresh.load_state_dict(torch.load(tmp_path / "slim.pt", weights_only=True))
    assert_same(outputs(slim), outputs(fresh))


def test_slim_model_can_be_pruned_again_and_both_compose():
    layers = [conv(3, 24, 3), nn.BatchNorm2d(24), nn.ReLU(), conv(24, 32, 3), nn.ReLU()]
    model = stirred(nn.Sequential(*layers, conv(32, 8)).eval())
    pruner = Pruner(budget=Budget(macs="70%"), importance=RandomImportance())
    first = pruner.plan(model, SHAPE)
    once = apply(model, first, shape=SHAPE)
    second = pruner.plan(once, SHAPE)
    twice = apply(once, second, shape=SHAPE)
    assert_same(outputs(twice), outputs(apply(model, compose(first, second), shape=SHAPE)))
    assert count(twice, SHAPE).macs <= 0.7 * 0.7 * count(model, SHAPE).macs


def test_modules_under_two_names_stay_one():
    model = Net(lambda m, x: m.c(m.a(x) + m.b(x)), a=conv(3, 4), c=conv(4, 1))
    model.b = model.a
    slim = apply(model, Subnet(channels={"a": (1, 2)}), shape=(8, 8))
    assert slim.a is slim.b
    assert slim.a.out_channels == 2


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({"0": (0, 70)}, "group '0' has 8 channels; cannot keep index 70"),
        ({"0": (0, -1)}, "group '0' has 8 channels; cannot keep index -1"),
        ({"0": ()}, "keeps none of them"),
        ({"0": (1, 1)}, "must rise, each once"),
        ({"0": ("a",)}, "cannot keep index a"),
        ({"2": (0,)}, "group '2' has 3 channels and cannot shrink (output of the model)"),
        ({"stem": (0,)}, "no channel group 'stem'"),
    ],
)
def test_subnet_that_does_not_fit_is_one_line(channels, message):
    model = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 3))
    with pytest.raises(SubnetError) as caught:
        apply(model, Subnet(channels=channels), shape=(8, 8))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_subnet_of_another_model_is_refused():
    small = nn.Sequential(conv(3, 8), conv(8, 3))
    large = nn.Sequential(conv(3, 16), conv(16, 3))
    subnet = Pruner(budget=Budget(macs="60%"), round_to=1).plan(small, (8, 8))
    with pytest.raises(SubnetError, match="other channel groups"):
        apply(large, subnet, shape=(8, 8))


def test_layer_left_without_channels_is_refused():
    def run(m, x):
        return m.d(m.c(x) + torch.cat([m.a(x), m.b(x)], 1))

    model = Net(run, a=conv(3, 2), b=conv(3, 2), c=conv(3, 4), d=conv(4, 1))
    with pytest.raises(SubnetError, match="leaves layer 'b' no channels"):
        apply(model, Subnet(channels={"c": (0, 1)}), shape=(8, 8))
    assert Pruner(budget=Budget(macs="60%"), round_to=1).plan(model, (8, 8)).channels


def test_slim_model_that_cannot_run_is_refused():
    def run(m, x):
        y, z = m.a(x), m.b(x)
        size = z.shape[1] + 1 - 1  # whose number it is, is not followed through sums
        return m.c(y.reshape(y.shape[0], size, -1).flatten(1, 1).unsqueeze(3)), m.d(z)

    model = Net(run, a=conv(3, 4), b=conv(3, 4), c=conv(4, 1), d=conv(4, 1))
    with pytest.raises(ExportError, match="does not fit together"):
        apply(model, Subnet(channels={"a": (0, 1), "b": (0, 1, 2)}), shape=(8, 8))


def test_compose_by_hand():
    first = Subnet(channels={"a": (1, 3, 5), "b": (0, 2)})
    both = compose(first, Subnet(channels={"a": (0, 2), "c": (4,)}))
    assert both.channels == {"a": (1, 5), "b": (0, 2), "c": (4,)}
    with pytest.raises(SubnetError, match="keeps 2 units"):
        compose(first, replace(first, channels={"b": (2,)}))
