"""Elastic layers: parts of a layer that share its weights."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from razorlite.core.errors import CheckpointError, ConfigError, SubnetError
from razorlite.space import (
    Choices,
    ElasticLayers,
    Follow,
    Mutable,
    Mutator,
    Placeholder,
    SearchSpace,
    Subnet,
    prepare,
    recalibrate,
)


class Net(nn.Module):
    """Convolutions of every kind that can be elastic, norms, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.act = nn.PReLU(8)
        self.depthwise = nn.Conv2d(8, 8, 5, padding=4, dilation=2, groups=8, bias=False)
        self.grouped = nn.Conv2d(8, 12, 3, padding="same", groups=4)
        self.gn = nn.GroupNorm(4, 12)
        self.up = nn.ConvTranspose2d(12, 6, 2, stride=2)
        self.norm = nn.LayerNorm(6)
        self.fc = nn.Linear(6, 4)

    def forward(self, images):
        x = self.act(self.bn(self.stem(images)))
        x = self.gn(self.grouped(self.depthwise(x)))
        x = self.norm(self.up(x).permute(0, 2, 3, 1))
        return self.fc(x).mean((1, 2))


LAYERS = {
    "stem": Follow(out_channels="width", kernel_size=[1, 3]),
    "bn": Follow(out_channels="width"),
    "act": Follow(out_channels="width"),
    "depthwise": Follow(in_channels="width", out_channels="width", kernel_size=[3, 5]),
    "grouped": Follow(in_channels="width", out_channels="share"),
    "gn": Follow(out_channels="share"),
    "up": Follow(in_channels="share", out_channels=[2, 4, 6]),
    "norm": Follow(out_channels="up.out_channels"),
    "fc": Follow(in_channels="up.out_channels"),
}
DIMENSIONS = {"width": [8, 4], "share": [0.5, 1.0]}


def whole(seed=0):
    torch.manual_seed(seed)
    net = Net()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_(-1, 1)
    net.bn.running_mean.uniform_(-1, 1)
    net.bn.running_var.uniform_(0.5, 2)
    return net


def net_space(seed=0):
    layers = {**LAYERS, "grouped": Follow(in_channels="share", out_channels="share")}
    layers["depthwise"] = Follow(in_channels="share", out_channels="share", kernel_size=[3, 5])
    for name in ("stem", "bn", "act"):
        layers[name] = Follow(out_channels="share", kernel_size=LAYERS[name].kernel_size)
    return ElasticLayers(layers=layers, dimensions={"share": [0.5, 1.0]}).prepare(whole(seed))


def images(count=2):
    return torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def test_dimensions_are_named_and_shared():
    space = net_space()
    assert [(d.name, d.values) for d in space.dimensions] == [
        ("share", (0.5, 1.0)),
        ("stem.kernel_size", (1, 3)),
        ("depthwise.kernel_size", (3, 5)),
        ("up.out_channels", (2, 4, 6)),
    ]
    follows = {path: [d.name for d in m.dimensions] for path, m in space.mutables.items()}
    assert follows["depthwise"] == ["share", "depthwise.kernel_size"]
    assert follows["up"] == ["up.out_channels", "share"]


def test_weights_keep_their_names_and_the_largest_is_the_plain_model():
    space, plain = net_space(), whole()
    assert space.model.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(space.model.train()(images()), plain.train()(images()))
    assert torch.equal(space.model.eval()(images()), plain.eval()(images()))
    exported = space.export(space.selected)
    assert str(exported) == str(plain)
    assert torch.equal(exported.eval()(images()), plain.eval()(images()))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_every_point_selected_equals_exported_to_the_bit(layout):
    space = net_space()
    space.model.to(memory_format=layout)
    state = copy.deepcopy(space.model.state_dict())
    x = images().contiguous(memory_format=layout)
    for point in space.all_indices():
        subnet = space.decode(point)
        space.select(subnet)
        plain = space.export(subnet)
        assert not any(isinstance(m, Mutable) for m in plain.modules())
        assert {type(m).__module__.split(".")[0] for m in plain.children()} == {"torch"}
        assert torch.equal(plain.eval()(x), space.model.eval()(x))
        assert torch.equal(plain.train()(x), space.model.train()(x))
        weights = space.chosen_weights(space.model.state_dict(), subnet)
        assert weights.keys() == plain.state_dict().keys()  # statistics have moved alike, too
        assert all(torch.equal(weights[name], v) for name, v in plain.state_dict().items())
        space.model.load_state_dict(state)


def test_smaller_forms_are_the_first_channels_and_the_centre_of_the_kernel():
    space, plain = net_space(), whole()
    choices = {"share": 0.5, "stem.kernel_size": 1, "depthwise.kernel_size": 3}
    small = space.export(Subnet(choices={**choices, "up.out_channels": 2}))
    assert torch.equal(small.stem.weight, plain.stem.weight[:4, :, 1:2, 1:2])
    assert small.stem.padding == (0, 0)
    assert torch.equal(small.depthwise.weight, plain.depthwise.weight[:4, :, 1:4, 1:4])
    assert (small.depthwise.groups, small.depthwise.padding) == (4, (2, 2))
    assert torch.equal(small.grouped.weight, plain.grouped.weight[:6])
    assert (small.grouped.groups, small.grouped.padding) == (2, "same")
    assert (small.gn.num_groups, small.gn.num_channels) == (2, 6)
    assert torch.equal(small.up.weight, plain.up.weight[:6, :2])
    assert torch.equal(small.fc.weight, plain.fc.weight[:, :2])
    assert torch.equal(small.bn.running_var, plain.bn.running_var[:4])
    assert small.norm.normalized_shape == (2,)
    assert small(images()).shape == (2, 4)


def test_a_float_that_equals_a_count_is_no_share():
    follow = {"fc": Follow(in_channels="w"), "norm": Follow(out_channels="w")}
    layers = {**follow, "up": Follow(out_channels="w")}
    space = ElasticLayers(layers=layers, dimensions={"w": [2, 6]}).prepare(whole())
    point = Subnet(choices={"w": 2.0}, fingerprint=space.fingerprint)
    space.select(point)
    assert space.model.fc.in_features == 2
    assert space.export(point).fc.in_features == 2


def test_gradients_reach_the_part_that_ran():
    space = net_space()
    choices = {"share": 0.5, "stem.kernel_size": 1, "depthwise.kernel_size": 3}
    space.select(Subnet(choices={**choices, "up.out_channels": 4}))
    plain = space.export(space.selected)
    for model in (space.model, plain):
        model.train()(images()).sum().backward()
    chosen = {n: p.grad for n, p in space.model.named_parameters()}
    cut = space.chosen_weights(chosen, space.selected)
    for name, parameter in plain.named_parameters():
        assert torch.equal(cut[name], parameter.grad), name
    assert not chosen["stem.weight"][4:].any()
    assert not chosen["stem.weight"][:, :, 0].any()


def test_recalibration_measures_the_part_that_runs():
    space = net_space()
    space.select(space.decode([0, 1, 1, 2]))
    plain = space.export(space.selected)
    other = space.model.bn.running_mean[4:].clone()
    for model in (space.model, plain):
        recalibrate(model, [images(3), images(4)])
    assert_close(space.model.bn.running_mean[:4], plain.bn.running_mean)
    assert_close(space.model.bn.running_var[:4], plain.bn.running_var)
    assert not torch.equal(space.model.bn.running_mean[4:], other)  # they are of no form now


def test_plain_weights_are_not_cut_twice():
    space = net_space()
    small = space.decode([0, 0, 0, 0])
    with pytest.raises(
        CheckpointError, match=r"^fc\.weight of a supernet has .*\(4, 6\), got \(4, 2\)"
    ):
        space.chosen_weights(space.export(small).state_dict(), small)


def test_elastic_layers_inside_choices_count_where_these_are_taken():
    def conv(channels):
        layers = [nn.Conv2d(channels, 6, 3, padding=1), nn.Conv2d(6, channels, 1)]
        return nn.Sequential(*layers)

    choices = {"none": lambda channels: nn.Identity(), "conv": conv}
    model = nn.Sequential(Placeholder("ops", "op", channels=3), nn.Conv2d(3, 2, 1))
    preparers = [
        Mutator(placeholder_mapping={"ops": Choices(choices=choices)}),
        ElasticLayers(
            layers={
                "*.choices.conv.0": Follow(out_channels=[2, 4, 6], kernel_size=[1, 3]),
                "*.choices.conv.1": Follow(in_channels="{parent}.0.out_channels"),
            }
        ),
    ]
    space = prepare(model, preparers)
    assert [dict(d.when) for d in space.dimensions] == [{}, {"op": ("conv",)}, {"op": ("conv",)}]
    assert space.size == 1 + 6
    for point in space.all_indices():
        subnet = space.decode(point)
        space.select(subnet)
        plain = space.export(subnet)
        assert torch.equal(plain(images()), space.model(images()))
        weights = space.chosen_weights(space.model.state_dict(), subnet)
        plain.load_state_dict(weights)
    assert len(plain[0]) == 2


def test_a_shared_layer_is_elastic_at_every_position():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.Sequential(conv, nn.ReLU(), nn.Sequential(conv))
    space = ElasticLayers(layers={"0": Follow(kernel_size=[1, 3])}).prepare(model)
    assert model[0] is model[2][0]
    small = Subnet(choices={"0.kernel_size": 1})
    plain = space.export(small)
    assert plain[0] is plain[2][0]
    weights = space.chosen_weights(model.state_dict(), small)
    assert weights["2.0.weight"].shape == (4, 4, 1, 1)


def test_several_preparers_may_work_on_one_layer():
    follow = {"0": Follow(out_channels=[4, 8]), "1": Follow(in_channels="0.out_channels")}
    widths = ElasticLayers(layers=follow)
    kernels = ElasticLayers(layers={"*": Follow(kernel_size=[1, 3])})
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1))
    before = [layer.weight for layer in model]
    space = prepare(model, [widths, kernels])
    assert all(layer.weight is weight for layer, weight in zip(model, before, strict=True))
    assert [d.name for d in space.mutables["0"].dimensions] == ["0.out_channels", "0.kernel_size"]
    assert space.size == 8
    for point in space.all_indices():
        space.select(space.decode(point))
        plain = space.export(space.decode(point))
        assert torch.equal(plain(images()), space.model(images()))
    with pytest.raises(ConfigError, match=r"0 \(Conv2d\): its outputs follow 0\.out_channels alr"):
        ElasticLayers(layers={"0": Follow(out_channels=[2, 8])}).prepare(model)


def test_layers_go_through_copies_and_files(tmp_path):
    space = net_space()
    twin = SearchSpace(copy.deepcopy(space.model))
    assert twin.fingerprint == space.fingerprint
    small = twin.decode([0, 0, 0, 0])
    twin.select(small)
    assert space.selected != small
    torch.save(twin.model, tmp_path / "model.pt")
    again = torch.load(tmp_path / "model.pt", weights_only=False)
    assert torch.equal(again.eval()(images()), twin.model.eval()(images()))


def test_fingerprints_tell_what_is_elastic():
    follow = {"fc": Follow(in_channels="w"), "norm": Follow(out_channels="w")}
    one = ElasticLayers(layers=follow, dimensions={"w": [3, 6]}).prepare(whole())
    two = ElasticLayers(layers=follow, dimensions={"w": [2, 6]}).prepare(whole())
    three = ElasticLayers(
        layers={"up": Follow(out_channels="w"), **follow}, dimensions={"w": [3, 6]}
    )
    prints = {one.fingerprint, two.fingerprint, three.prepare(whole()).fingerprint}
    assert len(prints) == 3


WRONG = {
    "no layer": ({"stem2": Follow(kernel_size=[1, 3])}, {}, "no module matches 'stem2'.*'stem'"),
    "no kind": ({"relu*": Follow(out_channels=[1])}, {}, "'relu.' matches ReLU; elastic can be"),
    "unknown": (
        {"fc": Follow(in_channels="up.out")},
        {},
        "in_channels follows 'up.out', which is no",
    ),
    "not all": ({"fc": Follow(out_channels=[1, 2])}, {}, "of which the largest is all 4, got 1, 2"),
    "more": ({"fc": Follow(out_channels=[4, 5])}, {}, "of which the largest is all 4, got 4, 5"),
    "none": ({"fc": Follow(out_channels=[0, 4])}, {}, "wants counts from 1"),
    "even": ({"stem": Follow(kernel_size=[2, 3])}, {}, "a kernel of 2 has no centre in one of 3"),
    "text": ({"fc": Follow(out_channels="w")}, {"w": ["a", "b"]}, "wants numbers, got a, b"),
    "twice": ({"fc": Follow(out_channels=[4, 4])}, {}, "has the value 4 twice"),
    "no side": ({"bn": Follow(kernel_size=[1, 3])}, {}, "BatchNorm2d.: has no kernel_size"),
    "unused": ({"fc": Follow(out_channels=[4])}, {"w": [1]}, "no layer follows the dimension 'w'"),
    "both": (
        {"f*": Follow(out_channels=[4]), "*c": Follow(out_channels=[4])},
        {},
        "fc matches both",
    ),
    "groups": ({"gn": Follow(out_channels=[4, 12])}, {}, "cannot keep 4 of 12; keep whole groups"),
    "half groups": (
        {"grouped": Follow(out_channels="w", in_channels="w")},
        {"w": [0.25, 0.4, 1.0]},
        "8 to 12 channels in 4 groups cannot keep whole groups alike",
    ),
    "one side": ({"depthwise": Follow(out_channels=[4, 8])}, {}, "let both sides follow one dimen"),
    "growing": ({"bare": Follow(kernel_size=[1, 3])}, {}, "its maps would grow; pad by 1 at least"),
    "reflect": ({"mirror": Follow(kernel_size=[1, 3])}, {}, "of reflect cannot have an elastic"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_and_leaves_the_model(name):
    layers, dimensions, message = WRONG[name]
    model = whole()
    model.relu1, model.bare = nn.ReLU(), nn.Conv2d(3, 3, 3)
    model.mirror = nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")

    def make():
        ElasticLayers(layers=layers, dimensions=dimensions).prepare(model)

    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
    assert not any(isinstance(m, Mutable) for m in model.modules())


def test_a_pattern_that_follows_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"layers\.fc follows nothing; give out_channels"):
        ElasticLayers(layers={"fc": Follow()})


def test_random_points_are_uniform_over_values():
    space = net_space()
    points = space.random_indices(np.random.default_rng(0), 6000)
    assert (abs(np.bincount(points[:, 3]) - 2000) < 190).all()


def test_a_whole_number_stands_for_the_share_that_equals_it():
    layers = {"0": Follow(out_channels=[0.5, 1.0]), "1": Follow(in_channels="0.out_channels")}
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1))
    space = prepare(net, [ElasticLayers(layers=layers)])
    for value in (1, True):
        whole = Subnet(choices={"0.out_channels": value}, fingerprint=space.fingerprint)
        if value is True:
            with pytest.raises(SubnetError, match="got True"):
                space.export(whole)
        else:
            assert space.export(whole)[0].out_channels == 8
            space.select(whole)
            assert net[0].out_channels == 8


def test_one_name_for_operations_and_widths_is_refused():
    net = nn.Sequential(Placeholder("ops", "same"), nn.Conv2d(3, 8, 1))
    mutator = Mutator(placeholder_mapping={"ops": Choices(choices={"a": nn.Identity})})
    widths = ElasticLayers(layers={"1": Follow(out_channels="same")}, dimensions={"same": [4, 8]})
    with pytest.raises(SubnetError, match=r"'same' have different values: \('a',\), \(4, 8\)"):
        prepare(net, [mutator, widths])
