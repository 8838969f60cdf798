"""Choices inside choices, and operations that take anything."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.cost import Constraint, CostTable, count
from razorlite.recipes.building import build
from razorlite.recipes.experiment import read
from razorlite.search import Candidates, ExhaustiveSearcher, RandomSearcher, Study
from razorlite.space import Choices, Mutable, Mutator, OneOf, Placeholder, SearchSpace, Subnet
from tests.space.supernets import mobile_space, shuffle_space, toy_space


class Cell(nn.Module):
    """A fixed layer around a choice."""

    def __init__(self, channels):
        super().__init__()
        self.before = nn.Conv2d(channels, channels, 1)
        self.inner = Placeholder("kernels", "kernel", channels=channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.norm(self.inner(self.before(x)))


class Model(nn.Module):
    """Two cells or nothing, one after the other."""

    def __init__(self):
        super().__init__()
        self.first = Placeholder("cells", "one", channels=4)
        self.second = Placeholder("cells", "two", channels=4)

    def forward(self, x):
        return self.second(self.first(x))


def conv(kernel):
    return lambda channels: nn.Conv2d(channels, channels, kernel, padding=kernel // 2)


CELLS = {"cell": Cell, "skip": lambda channels: nn.Identity()}
KERNELS = {"k1": conv(1), "k3": conv(3), "k5": conv(5)}


def nested_space():
    mapping = {"cells": Choices(choices=CELLS), "kernels": Choices(choices=KERNELS)}
    return Mutator(placeholder_mapping=mapping).prepare(Model())


def images():
    return torch.rand(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))


def test_inner_choices_count_where_the_outer_one_is_taken():
    space = nested_space()
    assert [(d.name, d.values, dict(d.when)) for d in space.dimensions] == [
        ("one", ("cell", "skip"), {}),
        ("one.cell.kernel", ("k1", "k3", "k5"), {"one": ("cell",)}),
        ("two", ("cell", "skip"), {}),
        ("two.cell.kernel", ("k1", "k3", "k5"), {"two": ("cell",)}),
    ]
    assert list(space.mutables) == [
        "first",
        "first.choices.cell.inner",
        "second",
        "second.choices.cell.inner",
    ]
    assert space.size == 4 * 4


def test_every_point_selected_equals_exported():
    space = nested_space()
    weights = copy.deepcopy(space.model.state_dict())
    for point in space.all_indices():
        subnet = space.decode(point)
        space.select(subnet)
        assert space.selected == subnet
        plain = space.export(subnet)
        assert not any(isinstance(m, Mutable) for m in plain.modules())
        assert torch.equal(plain.train()(images()), space.model.train()(images()))
        assert torch.equal(plain.eval()(images()), space.model.eval()(images()))
        space.model.load_state_dict(weights)


def test_weights_of_the_chosen_path_load_by_name():
    space, other = nested_space(), nested_space()
    for point in space.all_indices():
        subnet = space.decode(point)
        plain = other.export(subnet)
        plain.load_state_dict(other.chosen_weights(space.model.state_dict(), subnet))
        assert torch.equal(plain.eval()(images()), space.export(subnet).eval()(images()))


def test_only_what_runs_is_active():
    space = nested_space()
    space.select(Subnet(choices={"one": "skip", "two": "cell", "two.cell.kernel": "k3"}))
    space.model(images()).sum().backward()
    trained = {n for n, p in space.model.named_parameters() if p.grad is not None}
    active = set(space.active_parameters())
    assert trained == {n for n, p in space.model.named_parameters() if p in active}
    start = "second.choices.cell."
    assert {n.removeprefix(start) for n in trained} == {
        *("before.weight", "before.bias", "norm.weight", "norm.bias"),
        *("inner.choices.k3.weight", "inner.choices.k3.bias"),
    }


def test_inner_groups_are_checked_before_the_model_is_changed():
    model = Model()
    with pytest.raises(ConfigError, match="group 'kernels' has no entry in placeholder_mapping"):
        Mutator(placeholder_mapping={"cells": Choices(choices=CELLS)}).prepare(model)
    assert isinstance(model.first, Placeholder)
    endless = {
        "cells": Choices(choices={"cell": lambda channels: Placeholder("cells", "x", channels=4)})
    }
    with pytest.raises(
        ConfigError, match="group 'cells' has placeholders in its choices without end"
    ):
        Mutator(placeholder_mapping=endless).prepare(model)
    wrong = {
        "cells": Choices(choices=CELLS),
        "kernels": Choices(choices={"bad": lambda width: nn.Identity()}),
    }
    with pytest.raises(
        ConfigError, match=r"'bad' does not fit first\.choices\.cell\.inner: .*chann"
    ):
        Mutator(placeholder_mapping=wrong).prepare(model)
    assert isinstance(model.first, Placeholder)


def test_a_choice_may_be_a_placeholder_itself():
    inner = {
        "k1": conv(1),
        "more": lambda channels: Placeholder("large", "size", channels=channels),
    }
    mapping = {"ops": inner, "large": {"k3": conv(3), "k5": conv(5)}}
    model = nn.Sequential(Placeholder("ops", "op", channels=4))
    groups = {name: Choices(choices=choices) for name, choices in mapping.items()}
    space = Mutator(placeholder_mapping=groups).prepare(model)
    assert space.size == 3
    kernels = set()
    for point in space.all_indices():
        plain = space.export(space.decode(point))
        assert list(plain.state_dict()) == ["0.weight", "0.bias"]
        kernels.add(plain[0].kernel_size)
    assert kernels == {(1, 1), (3, 3), (5, 5)}


def test_a_placeholder_at_two_positions_is_one_choice_at_both():
    shared = Placeholder("ops", "op", channels=4)
    model = nn.ModuleDict({"one": shared, "two": nn.Sequential(shared)})
    space = Mutator(placeholder_mapping={"ops": Choices(choices=KERNELS)}).prepare(model)
    assert model["one"] is model["two"][0]
    plain = space.export(Subnet(choices={"op": "k3"}))
    assert plain["one"] is plain["two"][0]
    weights = space.chosen_weights(space.model.state_dict(), Subnet(choices={"op": "k3"}))
    assert weights.keys() == plain.state_dict().keys()


class Fuse(nn.Module):
    """Takes two maps, a factor by name, and gives a tuple."""

    def __init__(self, sign):
        super().__init__()
        self.sign = sign

    def forward(self, maps, extra, *, factor=1.0):
        return tuple(x + self.sign * extra * factor for x in maps)


def test_operations_take_tuples_and_keyword_arguments():
    space = SearchSpace(OneOf(choices={"add": Fuse(1), "sub": Fuse(-1)}, space_id="fuse"))
    maps = (torch.ones(1), torch.zeros(1))
    space.select(Subnet(choices={"fuse": "sub"}))
    first, second = space.model(maps, torch.tensor(2.0), factor=3.0)
    assert (first.item(), second.item()) == (-5.0, -6.0)
    assert isinstance(space.export(space.selected), Fuse)


class Wrapped(nn.Module):
    """The nested model on images of three channels."""

    def __init__(self):
        super().__init__()
        self.stem, self.cells = nn.Conv2d(3, 4, 1), nested_space().model

    def forward(self, x):
        return self.cells(self.stem(x))


def test_costs_of_nested_choices_are_those_of_the_exported_models():
    space = SearchSpace(Wrapped())
    points = space.all_indices()
    costs = CostTable.build(space, (6, 6)).many(points)
    for point, macs, params in zip(points, costs["macs"], costs["params"], strict=True):
        exact = count(space.export(space.decode(point)), (6, 6))
        assert (exact.macs, exact.params) == (macs, params)


@pytest.mark.parametrize("kind", [RandomSearcher, ExhaustiveSearcher])
def test_searchers_propose_each_distinct_point_once(kind):
    space = nested_space()
    table = CostTable.build(SearchSpace(Wrapped()), (6, 6))
    least, most = table.bounds()["macs"]
    limit = Constraint.parse({"macs": (least + most) / 2}, table)
    candidates = Candidates(space=space, table=table, constraint=limit)
    study = Study(searcher=kind(candidates=candidates), score=lambda subnet: 0.0)
    study.run()
    seen = [tuple(trial.subnet.choices.values()) for trial in study.trials]
    allowed = [p for p in space.all_indices() if candidates.allowed(p[None])[0]]
    assert len(seen) == len(set(seen)) == len(allowed)
    assert 3 < len(allowed) < space.size


def test_weights_of_another_model_are_refused():
    space = nested_space()
    subnet = space.decode(space.all_indices()[0])
    with pytest.raises(CheckpointError, match="not of a supernet"):
        space.chosen_weights(space.export(subnet).state_dict(), subnet)


@pytest.mark.parametrize(
    ("config", "fingerprint"),
    [
        ("spos/fcos_spos_bccd_supernet", "fdf32235b3708191"),
        ("spos/mobilenetv2_spos_cifar10", "97001c6c4b2c8569"),
        ("spos/shufflenetv2_spos_imagenet", "849a14e626d782e1"),
        ("demo/supernet", "71d996eaca8cb538"),
    ],
)
def test_fingerprints_of_shipped_supernets_stay(config, fingerprint):
    _, experiment = read(config)
    with torch.device("meta"):
        assert build(experiment).space.fingerprint == fingerprint


def test_fingerprints_of_small_supernets_stay():
    assert toy_space().fingerprint == "501e2889d90049c9"
    assert mobile_space().fingerprint == "b117cda3df443df3"
    assert shuffle_space().fingerprint == "51719f54e2014558"


def test_tied_dimensions_under_different_conditions_count_in_any_of_them():
    def outer(name, choice):
        inner = OneOf(choices={"x": nn.Identity(), "y": nn.ReLU()}, space_id="inner")
        others = {"none": nn.Identity(), choice: inner}
        return OneOf(choices=others, space_id=name)

    same = SearchSpace(nn.Sequential(outer("one", "a"), outer("one", "a")))
    assert dict(same.dimensions[1].when) == {"one": ("a",)}
    different = SearchSpace(nn.Sequential(outer("one", "a"), outer("two", "a")))
    assert [dict(d.when) for d in different.dimensions] == [{}, {}, {}]
    rng = np.random.default_rng(0)
    assert all(different.size == 8 and different.random(rng).choices for _ in range(3))
