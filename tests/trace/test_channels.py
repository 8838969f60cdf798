"""Channel groups of small models, by hand."""

import copy
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.trace import channel_graph, channel_groups
from tests.trace.zoo import OWN, Net, conv, joined, network, shuffled


def groups_of(model, shape=(8, 8), **kwargs):
    return {group.name: group for group in channel_groups(model, shape, **kwargs)}


def index_of(group, module, side):
    return next(m.index for m in group.members if (m.module, m.side) == (module, side))


@dataclass(frozen=True)
class Maps:
    maps: tuple[Tensor, ...]


class ReadsMaps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = conv(4, 2)

    def forward(self, seen: Maps) -> Tensor:
        return self.c(seen.maps[0])


def test_chain_of_layers():
    model = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 2))
    first, last = channel_groups(model, (8, 8))
    assert (first.name, first.size, first.fixed) == ("0", 4, "")
    assert [(m.module, m.side, m.index) for m in first.members] == [
        ("0", "out", (0, 1, 2, 3)),
        ("1", "out", (0, 1, 2, 3)),
        ("3", "in", (0, 1, 2, 3)),
    ]
    assert (last.name, last.size, last.fixed) == ("3", 2, "output of the model")


def test_addition_ties_both_sides():
    model = Net(lambda m, x: m.c(m.a(x) + m.b(x)), a=conv(3, 4), b=conv(3, 4), c=conv(4, 2))
    group = groups_of(model)["a"]
    assert index_of(group, "b", "out") == index_of(group, "c", "in") == (0, 1, 2, 3)


def test_concatenation_keeps_groups_apart_in_the_reader():
    model = Net(
        lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], 1)), a=conv(3, 2), b=conv(3, 3), c=conv(5, 1)
    )
    groups = groups_of(model)
    assert index_of(groups["a"], "c", "in") == (0, 1, -1, -1, -1)
    assert index_of(groups["b"], "c", "in") == (-1, -1, 0, 1, 2)


def test_depthwise_convolution_passes_channels_on():
    model = nn.Sequential(conv(3, 4), conv(4, 8, 3, groups=4), conv(8, 2))
    group = groups_of(model)["0"]
    assert (group.size, group.fixed) == (4, "")
    assert index_of(group, "1", "in") == (0, 1, 2, 3)
    assert index_of(group, "1", "out") == index_of(group, "2", "in") == (0, 0, 1, 1, 2, 2, 3, 3)


def test_convolution_of_few_groups_ties_the_same_place_of_each():
    model = nn.Sequential(conv(3, 8), conv(8, 6, groups=2), conv(6, 2))
    groups = groups_of(model)
    assert index_of(groups["0"], "0", "out") == (0, 1, 2, 3, 0, 1, 2, 3)
    assert index_of(groups["1"], "2", "in") == (0, 1, 2, 0, 1, 2)


def test_convolution_of_many_groups_ties_inputs_and_outputs_of_each():
    model = nn.Sequential(conv(3, 8), conv(8, 8, groups=4), conv(8, 2))
    group = groups_of(model)["0"]
    assert index_of(group, "0", "out") == (0, 0, 1, 1, 2, 2, 3, 3)
    assert index_of(group, "1", "out") == (0, 0, 1, 1, 2, 2, 3, 3)


def test_group_norm_keeps_its_groups_whole():
    model = nn.Sequential(conv(3, 6), nn.GroupNorm(3, 6), nn.ReLU(), conv(6, 2))
    assert index_of(groups_of(model)["0"], "0", "out") == (0, 0, 1, 1, 2, 2)


def test_halves_tie_the_same_places():
    def run(m, x):
        first, second = m.a(x).chunk(2, dim=1)
        return m.b(first) + m.c(second)

    model = Net(run, a=conv(3, 6), b=conv(3, 2), c=conv(3, 2))
    assert index_of(groups_of(model)["a"], "a", "out") == (0, 1, 2, 0, 1, 2)


@pytest.mark.parametrize(
    "cut",
    [
        lambda x: x.split(x.shape[1] // 2, dim=1),
        lambda x: (x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]),
        lambda x: torch.tensor_split(x, 2, dim=1),
        lambda x: x.unflatten(1, (2, -1)).unbind(1),
    ],
)
def test_halves_by_computed_sizes(cut):
    model = Net(lambda m, x: m.b(cut(m.a(x))[1]), a=conv(3, 6), b=conv(3, 2))
    group = groups_of(model)["a"]
    assert not group.fixed
    assert index_of(group, "a", "out") == (0, 1, 2, 0, 1, 2)


@pytest.mark.parametrize(
    "how", ["view", "reshape", "unflatten", "function", "functional", "module"]
)
def test_every_spelling_of_a_shuffle(how):
    # groups (0 1 2 3) (4 5 6 7) become 0 4 1 5 2 6 3 7; place i of both halves is one unit
    group = groups_of(shuffled(how))["a"]
    assert not group.fixed
    assert index_of(group, "a", "out") == (0, 1, 2, 3, 0, 1, 2, 3)
    assert index_of(group, "b", "in") == (0, 0, 1, 1, 2, 2, 3, 3)


def test_shuffle_of_single_path_one_shot():
    def run(m, x):
        x = m.a(x)
        n, c, h, w = x.shape
        x = x.reshape(n * c // 2, 2, h * w).permute(1, 0, 2).reshape(2, -1, c // 2, h, w)
        return m.b(x[0]) + m.c(x[1])

    group = groups_of(Net(run, a=conv(3, 8), b=conv(4, 2), c=conv(4, 2)))["a"]
    assert not group.fixed
    assert index_of(group, "a", "out") == (0, 0, 1, 1, 2, 2, 3, 3)
    assert index_of(group, "c", "in") == (0, 1, 2, 3)


def test_flattened_map_into_linear():
    model = nn.Sequential(conv(3, 2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8, 3))
    assert index_of(groups_of(model)["0"], "3", "in") == (0, 0, 0, 0, 1, 1, 1, 1)


def test_pixel_shuffle_ties_what_becomes_one_channel():
    model = nn.Sequential(conv(3, 8), nn.PixelShuffle(2), conv(2, 1))
    group = groups_of(model)["0"]
    assert index_of(group, "0", "out") == (0, 0, 0, 0, 1, 1, 1, 1)
    assert index_of(group, "2", "in") == (0, 1)


def test_shared_layer_ties_all_it_reads():
    model = Net(
        lambda m, x: (m.head(m.a(x)), m.head(m.b(x))),
        a=conv(3, 4),
        b=conv(3, 4),
        head=nn.Sequential(conv(4, 4), nn.ReLU(), conv(4, 1)),
    )
    groups = groups_of(model)
    assert index_of(groups["a"], "b", "out") == (0, 1, 2, 3)
    assert groups["head.0"].size == 4
    assert not groups["head.0"].fixed


def test_transposed_convolution():
    model = nn.Sequential(conv(3, 4), nn.ConvTranspose2d(4, 6, 2, stride=2), conv(6, 1))
    groups = groups_of(model)
    assert index_of(groups["0"], "1", "in") == (0, 1, 2, 3)
    assert index_of(groups["1"], "1", "out") == (0, 1, 2, 3, 4, 5)


def test_squeeze_and_excitation():
    def run(m, x):
        x = m.a(x)
        gate = m.up(F.relu(m.down(F.adaptive_avg_pool2d(x, 1)))).sigmoid()
        return m.b(x * gate)

    model = Net(run, a=conv(3, 8), down=conv(8, 2), up=conv(2, 8), b=conv(8, 1))
    groups = groups_of(model)
    assert index_of(groups["a"], "up", "out") == tuple(range(8))
    assert groups["down"].size == 2


def gram(x):
    return x @ x.transpose(1, 2)


FIXED = {
    "an unknown operation": (lambda m, x: m.b(m.a(x).cumsum(1)), "cumsum"),
    "a mean over channels": (lambda m, x: m.b(m.a(x) * m.a(x).mean(1, keepdim=True)), "mean"),
    "softmax over channels": (lambda m, x: m.b(m.a(x).softmax(1)), "softmax"),
    "a set slice": (lambda m, x: m.b(torch.cat([m.a(x)[:, :3], m.a(x)[:, 3:]], 1)), "set places"),
    "a set split": (lambda m, x: m.b(joined(m.a(x).split(2, 1), 2)), "set places"),
    "a set view": (lambda m, x: m.b(m.a(x).view(-1, 4, 8, 8)), "set size"),
    "products of channels": (lambda m, x: m.b(gram(m.a(x).flatten(2)).unsqueeze(-1)), "matmul"),
    "a roll": (lambda m, x: m.b(m.a(x).roll(1, 1)), "roll"),
    "rows as channels": (lambda m, x: m.d(m.a(x).transpose(1, 2)), "another dimension"),
    "one for many": (lambda m, x: m.b(m.a(x) * m.one(x)), ""),
    "the number of channels": (lambda m, x: m.b(m.a(x) / m.a(x).shape[1]), "reckoned with"),
    "a pad of channels": (lambda m, x: m.d(F.pad(m.a(x), (0, 0, 0, 0, 2, 2))), "pad"),
    "a layer norm": (lambda m, x: m.b(F.layer_norm(m.a(x), (4, 8, 8))), "layer_norm"),
    "the functional form": (lambda m, x: m.b(F.conv2d(m.a(x), m.b.weight)), "conv2d"),
}


@pytest.mark.parametrize("what", FIXED)
def test_what_cannot_shrink_is_fixed_and_says_why(what):
    run, reason = FIXED[what]
    model = Net(run, a=conv(3, 4), b=conv(4, 4), d=conv(8, 2), one=conv(3, 1))
    groups = groups_of(model)
    name = "one" if what == "one for many" else "a"
    assert groups[name].fixed
    assert reason in groups[name].fixed


def test_parameters_of_a_forward_are_members():
    class Embedded(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = conv(3, 4), conv(4, 1)
            self.position = nn.Parameter(torch.zeros(1, 4, 8, 8))
            self.scale = nn.Parameter(torch.tensor(2.0))
            self.rows = nn.Parameter(torch.ones(8, 1))

        def forward(self, x):
            return self.b((self.a(x) * self.scale * self.rows) + self.position)

    group = groups_of(Embedded())["a"]
    assert group.fixed == ""
    assert [(m.module, m.side, m.tensors) for m in group.members] == [
        ("a", "out", (("weight", 0), ("bias", 0))),
        ("b", "in", (("weight", 1),)),
        ("", "out", (("position", 1),)),
    ]
    assert group.members[-1].index == (0, 1, 2, 3)
    assert group.members[-1].key == "position"


def test_tensors_of_layers():
    model = nn.Sequential(
        nn.ConvTranspose2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), conv(4, 4, groups=4), conv(4, 1)
    )
    members = {(m.module, m.side): m.tensors for m in groups_of(model)["0"].members}
    assert members["0", "out"] == (("weight", 1),)
    norm = ("weight", "bias", "running_mean", "running_var")
    assert members["1", "out"] == tuple((name, 0) for name in norm)
    assert members["2", "in"] == (("weight", 1),)
    assert members["2", "out"] == (("weight", 0), ("bias", 0))


@pytest.mark.parametrize(
    "run",
    [
        lambda m, x: m.b(m.a(x) * m.p.sum(0)),
        lambda m, x: m.b(m.a(x) + m.p @ m.p.t()),
        lambda m, x: m.b(m.a(x) + m.p[0, 0] * m.p),
    ],
)
def test_parameters_that_cannot_be_cut_stay(run):
    model = Net(run, a=conv(3, 8), b=conv(8, 1), p=nn.Parameter(torch.ones(8, 8)))
    graph = channel_graph(model, (8, 8))
    assert not any(m.bare for group in graph.prunable for m in group.members)


def test_scalar_parameter_and_constants_do_no_harm():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = conv(3, 4), conv(4, 1)
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return self.b(2 * (self.a(x) * self.scale).clamp(0, 6) / 3 + torch.ones(1))

    assert not groups_of(Scaled())["a"].fixed


def test_two_layers_with_one_weight_are_fixed():
    model = Net(lambda m, x: m.c(m.a(x) + m.b(x)), a=conv(3, 4), b=conv(3, 4), c=conv(4, 1))
    model.b.weight = model.a.weight
    assert "shared" in groups_of(model)["a"].fixed


def test_same_module_under_two_names_is_one_layer():
    model = Net(lambda m, x: m.c(m.a(x) + m.b(x)), a=conv(3, 4), c=conv(4, 1))
    model.b = model.a
    group = groups_of(model)["a"]
    assert not group.fixed
    assert [m.module for m in group.members] == ["a", "c"]


def test_layer_with_all_channels_tied_is_fixed():
    model = nn.Sequential(conv(3, 4), nn.PixelShuffle(2), conv(1, 1))
    reason = groups_of(model)["0"].fixed
    assert reason.startswith("its 4 channels can only go all at once: PixelShuffle (_1) in 1")


def test_user_named_leaf_is_not_looked_into():
    inner = Net(lambda m, x: m.c(x) if x.sum() > 0 else x, c=conv(4, 4))
    model = Net(lambda m, x: m.b(m.inner(m.a(x))), a=conv(3, 4), inner=inner, b=conv(4, 1))
    model.inner = nn.Sequential(conv(4, 4), nn.ReLU())
    assert "inner" in groups_of(model, leaves=["inner"])["a"].fixed
    assert not groups_of(model)["a"].fixed


@pytest.mark.parametrize("how", ["graph", "run"])
def test_what_a_leaf_reads_out_of_a_dataclass_stays(how):
    model = Net(lambda m, x: m.inner(Maps((m.a(x),))), a=conv(3, 4), inner=ReadsMaps())
    assert "no rule for ReadsMaps" in groups_of(model, leaves=["inner"], how=how)["a"].fixed


def test_hooked_or_parametrized_layer_is_fixed():
    model = nn.Sequential(conv(3, 4), conv(4, 4), conv(4, 1))
    nn.utils.parametrizations.weight_norm(model[1])
    assert groups_of(model)["0"].fixed


def test_model_is_left_alone():
    model = network("resnet18").train()
    before = copy.deepcopy(model.state_dict())
    names = [name for name, _ in model.named_modules()]
    channel_groups(model, (64, 64))
    assert model.training
    assert names == [name for name, _ in model.named_modules()]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_names_do_not_depend_on_the_shape_or_mode():
    model = network("fcos_resnet18")
    small, large = channel_graph(model, (64, 64)), channel_graph(model.train(), (96, 160))
    assert small.groups == large.groups
    assert small.fingerprint == large.fingerprint


def test_residual_stages_of_resnet18():
    groups = groups_of(network("resnet18"), (64, 64))
    assert list(groups)[:3] == ["conv1", "layer1.0.conv1", "layer1.1.conv1"]
    makers = [m.module for m in groups["layer2.0.conv2"].members if m.side == "out"]
    assert [m for m in makers if "bn" not in m] == [
        "layer2.0.conv2",
        "layer2.0.downsample.0",
        "layer2.0.downsample.1",
        "layer2.1.conv2",
    ]
    assert [n for n, group in groups.items() if group.fixed] == ["fc"]


@pytest.mark.parametrize("name", [n for n in OWN if n not in ("plain_fpn", "classifier")])
def test_only_outputs_and_shuffled_trunks_are_fixed(name):
    graph = channel_graph(network(name), (64, 64))
    reasons = {g.name: g.fixed for g in graph.groups if g.fixed}
    outputs = [n for n, reason in reasons.items() if reason == "output of the model"]
    assert all("head" in n or "fc" in n or "classifier" in n for n in outputs)
    others = [n for n in reasons if n not in outputs]
    assert not others or "shuffle" in name
    assert graph.unseen == ()


def test_modules_outside_forward_are_named():
    model = Net(lambda m, x: m.a(x), a=conv(3, 4), aside=nn.Sequential(conv(4, 4)))
    assert channel_graph(model, (8, 8)).unseen == ("aside.0",)


def test_what_is_laid_out_by_the_number_of_others_is_tied_to_them():
    def run(m, x):
        y, z = m.a(x), m.b(x)
        return m.c(y.reshape(y.shape[0], z.shape[1] * 2, -1).unsqueeze(3)), m.d(z)

    groups = groups_of(Net(run, a=conv(3, 8), b=conv(3, 4), c=conv(8, 1), d=conv(4, 1)))
    assert index_of(groups["a"], "a", "out") == (0, 1, 2, 3, 0, 1, 2, 3)
    assert index_of(groups["a"], "d", "in") == (0, 1, 2, 3)
