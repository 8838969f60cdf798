"""Weights wherever they lie in a file: layouts, prefixes, averages, and none that are broken."""

import pytest
import torch
from torch import nn

from razorlite.core.errors import CheckpointError, RazorliteError
from razorlite.engine.checkpoint import WeightsError, load_weights
from razorlite.engine.checkpoint_io import save_checkpoint


class Small(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))
        self.head = nn.Linear(width, 2)


def state(value, prefix="", **options):
    """Return the weights of a model, all of one value."""
    return {
        f"{prefix}{name}": torch.full_like(tensor, value)
        for name, tensor in Small(**options).state_dict().items()
    }


def loaded(tmp_path, content, **options):
    """Return the one value of what a model takes from a file."""
    torch.save(content, tmp_path / "a.pt")
    model = Small()
    assert load_weights(model, tmp_path / "a.pt", **options).complete
    values = {float(tensor.flatten()[0]) for tensor in model.state_dict().values()}
    [value] = values
    return value


PREFIXES = [
    "",
    "architecture.",
    "_orig_mod.",
    "ema.module.",
    "model.",
    "net.",
    "module.",
    "student.",
    "module._orig_mod.",
    "some.thing.nobody.foresaw.",
]


class TestLayouts:
    @pytest.mark.parametrize("prefix", PREFIXES)
    def test_prefixes_are_found(self, tmp_path, prefix):
        others = {"loss.weight": torch.zeros(3), "teacher.fc.weight": torch.zeros(2, 2)}
        more = others if prefix else {}
        assert loaded(tmp_path, {"state_dict": {**state(7, prefix), **more}}) == 7

    @pytest.mark.parametrize(
        "place",
        ["", "params", "weights", "model.state_dict", "ema.module", "a.b.c", "net_g", "state_dict"],
    )
    def test_nested_layouts_are_found(self, tmp_path, place):
        content = state(7)
        for name in reversed(place.split(".") if place else []):
            content = {name: content, "epoch": 3, "optimizer": {"state": {0: torch.ones(3)}}}
        assert loaded(tmp_path, content) == 7

    def test_most_of_the_models_tensors_decide(self, tmp_path):
        other = {"body.0.weight": torch.zeros(4, 3)}
        assert loaded(tmp_path, {"model": other, "detector": state(7)}) == 7
        assert (
            loaded(tmp_path, {**{f"aux.{k}": v for k, v in other.items()}, **state(7, "x.")}) == 7
        )

    def test_a_student_goes_before_its_teacher(self, tmp_path):
        flat = {**state(3, "teacher."), **state(7, "student.")}
        assert loaded(tmp_path, flat) == 7
        assert loaded(tmp_path, {"teacher": state(3), "student": state(7)}) == 7
        assert loaded(tmp_path, flat, prefix="teacher.") == 3
        assert loaded(tmp_path, {"teacher": state(3), "student": state(7)}, prefix="teacher") == 3

    def test_several_that_fit_alike_are_refused(self, tmp_path):
        for content in ({"a": state(1), "b": state(2)}, {**state(1, "a."), **state(2, "b.")}):
            with pytest.raises(CheckpointError, match=r"fit alike: a and b; name one by load_from"):
                loaded(tmp_path, content)
            assert loaded(tmp_path, content, prefix="b") == 2
        assert loaded(tmp_path, {"a": state(1), "b": state(1)}) == 1

    def test_a_prefix_that_nothing_has(self, tmp_path):
        with pytest.raises(
            CheckpointError, match=r"nothing under 'nett.'; its names start with ne"
        ):
            loaded(tmp_path, state(1, "net."), prefix="nett.")

    def test_a_wrong_shape_elsewhere_is_refused(self, tmp_path):
        with pytest.raises(WeightsError, match=r"mis-shaped: body.0.weight"):
            loaded(tmp_path, {"model": state(1, "net.", width=5)})
        partial = {key: tensor for key, tensor in state(1, "net.").items() if "bias" not in key}
        with pytest.raises(WeightsError, match=r"3 missing: body.0.bias"):
            loaded(tmp_path, partial)

    def test_what_is_ignored_may_be_missing(self, tmp_path):
        torch.save(state(7, "net."), tmp_path / "a.pt")
        model = Small()
        before = model.head.weight.clone()
        report = load_weights(model, tmp_path / "a.pt", ignore=["head.*"])
        assert report.complete
        assert torch.equal(model.head.weight, before)
        assert (model.body[0].weight == 7).all()


class TestAverages:
    @pytest.mark.parametrize(
        ("trained", "average"),
        [
            ("state_dict", "state_dict_ema"),
            ("state_dict", "ema_state_dict"),
            ("model", "ema"),
            ("model", "model_ema"),
            ("model", "ema.module"),
            ("net.state_dict", "net_ema.state_dict"),
            ("model", "averaged_model"),
        ],
    )
    @pytest.mark.parametrize("prefix", ["", "module."])
    def test_are_taken(self, tmp_path, trained, average, prefix):
        content = {}
        for place, value in ((trained, 1), (average, 2)):
            names, inside = place.split("."), state(value, prefix if value == 2 else "")
            for name in reversed(names):
                inside = {name: inside}
            content |= inside
        assert loaded(tmp_path, content) == 2
        assert loaded(tmp_path, content, ema=False) == 1

    def test_in_one_flat_file(self, tmp_path):
        flat = {
            **state(1, "model."),
            **state(2, "model_ema.module."),
            "n_averaged": torch.tensor(3),
        }
        assert loaded(tmp_path, flat) == 2
        assert loaded(tmp_path, flat, ema=False) == 1

    def test_averages_of_parameters_alone_take_statistics_from_the_trained(self, tmp_path):
        names = dict(Small().named_parameters())
        average = {name: tensor for name, tensor in state(2).items() if name in names}
        torch.save({"model": state(1), "ema": average}, tmp_path / "a.pt")
        model = Small()
        assert load_weights(model, tmp_path / "a.pt").complete
        assert (model.body[1].running_var == 1).all()
        assert all((parameter == 2).all() for parameter in model.parameters())

    def test_our_own_files_have_the_average_as_the_model(self, tmp_path):
        ema = {"updates": 3, "average": state(1)}
        assert loaded(tmp_path, {"model": state(2), "ema": ema}) == 2
        assert loaded(tmp_path, {"model": state(2), "ema": ema}, ema=False) == 1
        assert loaded(tmp_path, {"model": state(2), "ema": None}, ema=False) == 2

    def test_so_have_openmmlabs(self, tmp_path):
        content = {"meta": {"cfg": "", "epoch": 1}, "state_dict": state(2)}
        content["ema_state_dict"] = {**state(1, "module."), "steps": torch.tensor(5)}
        assert loaded(tmp_path, content) == 2
        assert loaded(tmp_path, content, ema=False) == 1

    def test_only_averages(self, tmp_path):
        assert loaded(tmp_path, {"ema": state(2)}) == 2
        with pytest.raises(CheckpointError, match="averaged weights only"):
            loaded(tmp_path, {"ema": state(2)}, ema=False)


class TestBrokenWeights:
    @pytest.mark.parametrize("name", ["body.0.weight", "body.1.running_var", "head.bias"])
    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_are_refused_by_name(self, tmp_path, name, value):
        broken = state(1)
        broken[name].view(-1)[-1] = value
        save_checkpoint(tmp_path / "a.pt", {"model": broken})
        model = Small()
        before = model.head.weight.clone()
        for options in ({}, {"strict": False}):
            with pytest.raises(CheckpointError, match=rf"a.pt: {name} is not finite"):
                load_weights(model, tmp_path / "a.pt", **options)
        assert torch.equal(model.head.weight, before)

    def test_infinite_numbers_that_belong_to_a_model_stay(self, tmp_path):
        model = nn.Linear(2, 2)
        model.register_buffer("mask", torch.full((2, 2), float("-inf")).triu(1))
        torch.save(model.state_dict(), tmp_path / "a.pt")
        assert load_weights(model, tmp_path / "a.pt").complete

    def test_what_is_not_loaded_may_be_broken(self, tmp_path):
        assert loaded(tmp_path, {**state(1), "loss": torch.tensor(float("nan"))}, ignore=["loss"])


def test_a_tensor_of_two_names_needs_one(tmp_path):
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    model["b"].weight = model["a"].weight
    torch.save({k: v for k, v in model.state_dict().items() if k != "b.weight"}, tmp_path / "a.pt")
    assert load_weights(model, tmp_path / "a.pt").complete


def test_errors_go_to_other_processes_by_what_they_say():
    kinds = [RazorliteError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        assert str(kind("no such file")) == "no such file"
    assert WeightsError in kinds
