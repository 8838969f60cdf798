"""Supernets: what may be chosen, selecting, exporting."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from razorlite.core.errors import CheckpointError, ConfigError, SubnetError
from razorlite.space import Choices, Mutable, Mutator, Placeholder, SearchSpace, Subnet
from tests.space.supernets import (
    Toy,
    images,
    mobile_space,
    published_space,
    shuffle_space,
    toy_space,
)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("make", [shuffle_space, mobile_space])
def test_select_then_forward_equals_export_then_forward(make):
    space = make()
    x = images()
    for seed in range(3):
        subnet = space.random(rng(seed))
        space.select(subnet)
        plain = space.export(subnet)
        assert torch.equal(plain.eval()(x), space.model.eval()(x))
        # in training mode, too: batch statistics, and gradients of every weight on the path
        assert torch.equal(plain.train()(x), space.model.train()(x))


def test_export_is_plain_and_independent_of_the_supernet():
    space = shuffle_space()
    before = copy.deepcopy(space.model.state_dict())
    plain = space.export(space.random(rng()))
    assert not any(isinstance(m, Mutable) for m in plain.modules())
    assert all(".choices." not in name for name in plain.state_dict())
    assert "backbone.layers.0.0.branch1.0.conv.weight" in plain.state_dict()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(1)
    after = space.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_export_keeps_a_module_shared_by_two_choices_shared():
    space = toy_space()
    first, third = space.mutables["first"], space.mutables["third"]
    third.choices["conv3"] = first.choices["conv3"]
    plain = space.export(Subnet(choices={"tied": "conv3", "free": "conv3"}))
    assert plain.first is plain.third
    assert plain.first is not first.choices["conv3"]


def test_exported_model_traces():
    space = shuffle_space()
    plain = space.export(space.random(rng())).eval()
    traced = torch.fx.symbolic_trace(plain)
    assert torch.equal(traced(images()), plain(images()))


def test_chosen_weights_of_a_supernet_checkpoint_load_by_name():
    space, other = shuffle_space(), shuffle_space()
    subnet = space.random(rng())
    state = copy.deepcopy(space.model.state_dict())
    plain = other.export(subnet)
    plain.load_state_dict(other.chosen_weights(state, subnet))
    assert torch.equal(plain.eval()(images()), space.export(subnet).eval()(images()))


def test_weights_of_a_plain_model_are_not_taken_for_a_supernet():
    space = shuffle_space()
    subnet = space.random(rng())
    with pytest.raises(CheckpointError, match="not of a supernet"):
        space.chosen_weights(space.export(subnet).state_dict(), subnet)


def test_only_the_active_path_gets_gradients():
    space = shuffle_space()
    space.select(space.random(rng()))
    space.model(images()).sum().backward()
    with_gradient = {p for p in space.model.parameters() if p.grad is not None}
    assert with_gradient == set(space.active_parameters())
    assert len(with_gradient) < len(list(space.model.parameters())) / 2


def test_places_of_one_name_choose_alike():
    space = toy_space()
    assert space.choices == {"tied": ("conv1", "conv3", "none"), "free": ("conv1", "conv3", "none")}
    assert space.size == 9
    space.select(Subnet(choices={"tied": "conv3", "free": "none"}))
    selected = {path: mutable.selected for path, mutable in space.mutables.items()}
    assert selected == {"first": "conv3", "second": "conv3", "third": "none"}
    assert dict(space.selected.choices) == {"tied": "conv3", "free": "none"}


def test_points_are_indices_and_names():
    space = toy_space()
    points = space.all_indices()
    assert points.tolist() == [[i, j] for i in range(3) for j in range(3)]
    for point in points:
        assert space.encode(space.decode(point)).tolist() == point.tolist()
    drawn = space.random_indices(rng(), 9000)
    counts = np.bincount(drawn[:, 0] * 3 + drawn[:, 1], minlength=9)
    assert counts.sum() == 9000
    assert (abs(counts - 1000) < 150).all()  # five standard deviations of a fair draw


def test_a_path_kept_over_a_block_comes_back_with_its_statistics():
    space = shuffle_space()
    state = {name: value.clone() for name, value in space.model.state_dict().items()}
    before, other = space.selected, space.random(np.random.default_rng(3))
    assert other.choices != before.choices

    def leave():
        with space.kept_path():
            space.select(other)
            space.model.train()(images(4))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave()
    assert space.selected == before
    assert all(torch.equal(state[n], v) for n, v in space.model.state_dict().items())


def test_fingerprint_tells_spaces_apart():
    space = shuffle_space()
    assert SearchSpace(space.model).fingerprint == space.fingerprint
    assert shuffle_space().fingerprint == shuffle_space(classes=3).fingerprint
    assert shuffle_space().fingerprint != shuffle_space(width_mult=0.25).fingerprint
    assert shuffle_space().fingerprint != mobile_space().fingerprint


def test_published_space_has_20_places_of_4():
    space = published_space()
    assert space.size == 4**20
    assert list(space.mutables)[:2] == ["backbone.layers.0.0", "backbone.layers.0.1"]
    assert list(space.choices)[-1] == "stage_3_block_3"
    widths = [
        m.choices["shuffle_3x3"].branch2[2].conv.out_channels for m in space.mutables.values()
    ]
    assert widths == [32] * 4 + [80] * 4 + [160] * 8 + [320] * 4


def test_mobile_space_skips_only_where_it_fits():
    space = mobile_space()
    assert space.size == 6**6 * 7**15
    assert "skip" not in space.choices["stage_1_block_0"]
    assert "skip" in space.choices["stage_1_block_1"]


def test_preparing_twice_is_refused_and_nothing_runs_before():
    model = Toy()
    with pytest.raises(RuntimeError, match=r"'tied' is still a placeholder; call Mutator\.prepare"):
        model(torch.zeros(1, 4, 2, 2))
    space = toy_space()
    mutator = Mutator(placeholder_mapping={"ops": Choices(choices={"a": nn.Identity})})
    with pytest.raises(ConfigError, match="no placeholders"):
        mutator.prepare(space.model)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, r"group 'ops' has no entry in placeholder_mapping"),
        (
            {"ops": {"a": nn.Identity}, "oops": {"a": nn.Identity}},
            r"'oops', but .*\['ops'\].*'ops'\?",
        ),
        ({"ops": {}}, "has no choices"),
        ({"ops": {"a.b": nn.Identity}}, "cannot name a choice"),
        ({"ops": {"type": nn.Identity}}, "'type' cannot name a choice"),
        ({"ops": {"training": nn.Identity}}, "'training' cannot name a choice"),
        ({"ops": {"a": lambda stride: None}}, r"'a' does not fit first: .*channels"),
    ],
)
def test_wrong_mapping_is_refused_and_leaves_the_model(mapping, message):
    model = Toy()
    groups = {name: Choices(choices=choices) for name, choices in mapping.items()}

    def prepare():
        Mutator(placeholder_mapping=groups).prepare(model)

    with pytest.raises(ConfigError, match=message) as caught:
        prepare()
    assert "\n" not in str(caught.value)
    assert isinstance(model.first, Placeholder)


@pytest.mark.parametrize(
    ("block", "kwargs", "message"),
    [
        (
            "ShuffleBlock",
            {"kernel_size": 4},
            "kernel_size: wants a whole number of at least 1 that is odd, got 4",
        ),
        ("Skip", {}, "Skip needs stride 1"),
    ],
)
def test_choice_that_cannot_be_built_is_refused(block, kwargs, message):
    from razorlite.core.config import Partial
    from razorlite.models.backbones.searchable_shufflenet import SearchableShuffleNetV2

    mutator = Mutator(
        placeholder_mapping={"all_blocks": Choices(choices={"x": Partial(block, kwargs)})}
    )
    with pytest.raises(ConfigError, match=message):
        mutator.prepare(SearchableShuffleNetV2())


def test_select_of_a_wrong_subnet_changes_nothing():
    space = toy_space()
    before = space.selected
    with pytest.raises(SubnetError):
        space.select(Subnet(choices={"tied": "conv3", "free": "conv9"}))
    assert space.selected == before
