"""Hooks record what they should and never stay."""

import gc
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.distill import Recorder, Tap


class Pyramid(nn.Module):
    """Two maps, one convolution that runs on both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.neck = Split()
        self.head = nn.Conv2d(4, 2, 1)
        self.unused = nn.Conv2d(4, 2, 1)

    def forward(self, images):
        maps = self.neck(self.relu(self.norm(self.stem(images))))
        return tuple(self.head(item) for item in maps.values())


class Split(nn.Module):
    def forward(self, features):
        return {"fine": features * 1, "coarse": features[..., ::2, ::2]}


@pytest.fixture
def model():
    return Pyramid()


def hook_count(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_it_records_outputs_inputs_and_every_call(model):
    names = ["stem", "neck", "head", "head:input", "neck[1]", "head:input[1]", ""]
    images = torch.randn(2, 3, 8, 8)
    with Recorder(model, names) as recorder:
        outputs = model(images)
        assert_close(recorder["stem"], [model.stem(images)])
        assert [tuple(m.shape) for m in recorder["neck"]] == [(2, 4, 8, 8), (2, 4, 4, 4)]
        assert_close(recorder["head"], list(outputs))
        assert_close(recorder[""], list(outputs))
        assert all(a is b for a, b in zip(recorder["head:input"], recorder["neck"], strict=True))
        assert recorder["neck[1]"][0] is recorder["head:input[1]"][0]


def test_gradients_flow_through_what_was_recorded(model):
    with Recorder(model, ["head"]) as recorder:
        model(torch.randn(1, 3, 8, 8))
        sum(m.sum() for m in recorder["head"]).backward()
    assert model.stem.weight.grad is not None


def test_hooks_go_with_the_context_and_only_ours(model):
    model.stem.register_forward_hook(lambda *_: None)
    recorder = Recorder(model, ["stem", "head:input"])
    assert hook_count(model) == 1
    for _ in range(2):
        with recorder:
            assert hook_count(model) == 3
            model(torch.randn(1, 3, 8, 8))
            assert len(recorder["head:input"]) == 2
        assert hook_count(model) == 1


def test_hooks_go_when_the_forward_raises(model):
    with pytest.raises(RuntimeError), Recorder(model, ["stem", "head:input"]):
        model(torch.randn(1, 5, 8, 8))
    assert hook_count(model) == 0


def test_nothing_stays_alive(model):
    recorder = Recorder(model, ["neck", "head"])
    with recorder:
        model(torch.randn(1, 3, 8, 8))
        watched = [weakref.ref(t) for name in ("neck", "head") for t in recorder[name]]
        assert all(ref() is not None for ref in watched)
        recorder.clear()
        gc.collect()
        assert all(ref() is None for ref in watched)
        model(torch.randn(1, 3, 8, 8))
        watched = [weakref.ref(t) for t in recorder["head"]]
    gc.collect()
    assert all(ref() is None for ref in watched)


def test_output_overwritten_in_place_is_refused(model):
    with Recorder(model, ["norm", "relu"]) as recorder:
        model(torch.randn(1, 3, 8, 8))
        assert recorder["relu"][0].min() >= 0
        with pytest.raises(ConfigError, match="'norm' recorded was overwritten in place"):
            recorder["norm"]


def test_a_module_that_does_not_run_is_named(model):
    with Recorder(model, ["unused"]) as recorder:
        model(torch.randn(1, 3, 8, 8))
        with pytest.raises(ConfigError, match="'unused' of Pyramid recorded nothing"):
            recorder["unused"]


def test_an_index_too_high_names_the_range(model):
    with Recorder(model, ["neck[2]"]) as recorder:
        model(torch.randn(1, 3, 8, 8))
        with pytest.raises(ConfigError, match="2 maps; the index must be 0 to 1"):
            recorder["neck[2]"]


def test_unknown_modules_get_a_suggestion(model):
    with pytest.raises(ConfigError, match="no module 'nek' to record; did you mean 'neck'"):
        Recorder(model, ["nek"])
    with pytest.raises(ConfigError, match="it has stem, norm, relu, neck, head, unused"):
        Recorder(model, ["zzz.yyy"])
    nested = nn.ModuleDict({"inner": model})
    with pytest.raises(ConfigError, match="inner has stem, norm"):
        Recorder(nested, ["inner.qqqqqqqqqqqqqqq"])


def test_names_are_parsed():
    assert Tap.parse("neck") == Tap("neck", "output", None)
    assert Tap.parse("a.b:input[3]") == Tap("a.b", "input", 3)
    assert Tap.parse("a.b@2:input[3]") == Tap("a.b", "input", 3, call=2)
    assert Tap.parse("a.b.assign()@1") == Tap("a.b", method="assign", call=1)
    assert Tap.parse("decode()") == Tap("", method="decode")
    for wrong in ("neck:output", "neck[x]", "neck[1]:input", "neck[-1]", "neck@x", "a()b"):
        with pytest.raises(ConfigError, match="expected 'module', 'module:input'"):
            Tap.parse(wrong)


class TestStructure:
    def test_values_are_what_the_module_returned(self, model):
        seen = []
        model.neck.register_forward_hook(lambda *args: seen.append(args[-1]))
        with Recorder(model, ["neck", "neck:input", ""]) as recorder:
            outputs = model(torch.randn(1, 3, 8, 8))
            assert recorder.value("neck") is seen[0]
            assert set(recorder.value("neck")) == {"fine", "coarse"}
            assert recorder.value("") is outputs
            assert isinstance(recorder.value("neck:input"), tuple)

    def test_calls_of_a_shared_module_are_kept_apart(self, model):
        with Recorder(model, ["head", "head@1", "head@1:input", "head@2", "head[0]"]) as recorder:
            outputs = model(torch.randn(1, 3, 8, 8))
            assert all(a is b for a, b in zip(recorder.calls("head"), outputs, strict=True))
            assert recorder.value("head@1") is outputs[1]
            assert recorder["head@1"][0] is outputs[1]
            assert recorder["head@1:input"][0].shape == (1, 4, 4, 4)
            assert recorder.value("head[0]") is outputs[0]
            with pytest.raises(ConfigError, match="there are 2 calls; the call must be 0 to 1"):
                recorder.value("head@2")
            with pytest.raises(ConfigError, match="ran 2 times; name one call, 'head@0' to 'hea"):
                recorder.value("head")

    def test_patterns_take_every_module_that_fits(self, model):
        with Recorder(model, ["ne*", "?e*", "*u*"]) as recorder:
            model(torch.randn(1, 3, 8, 8))
            assert [len(t[0, :, 0, 0]) for t in recorder["ne*"]] == [4, 4]
            assert [len(t[0, :, 0, 0]) for t in recorder["?e*"]] == [
                4,
                4,
                4,
                2,
                2,
            ]  # relu, neck, head
            assert len(recorder.calls("*u*")) == 1  # relu; unused did not run
        with pytest.raises(ConfigError, match=r"no module 'b\*' to record; it has stem, norm"):
            Recorder(model, ["b*"])

    def test_keyword_arguments_stand_behind_the_others(self):
        class Gate(nn.Module):
            def forward(self, x, *, scale):
                return x * scale

        class Outer(nn.Module):
            def __init__(self):
                super().__init__()
                self.gate = Gate()

            def forward(self, x):
                return self.gate(x, scale=x + 1)

        with Recorder(Outer(), ["gate:input"]) as recorder:
            Outer.forward(recorder._model, torch.ones(2))
            x, more = recorder.value("gate:input")
            assert more["scale"].tolist() == [2, 2]
            assert [t.tolist() for t in recorder["gate:input"]] == [[1, 1], [2, 2]]
            assert x.tolist() == [1, 1]

    def test_what_is_kept_outlives_the_recorder_as_it_was_built(self, model):
        with Recorder(model, ["neck", "unused"]) as recorder:
            model(torch.randn(1, 3, 8, 8))
            kept = recorder.kept(torch.Tensor.detach)
            fine = recorder.value("neck")["fine"]
            assert recorder.kept().value("neck") is recorder.value("neck")
        assert torch.equal(kept.value("neck")["fine"], fine)
        assert not kept.value("neck")["fine"].requires_grad
        with pytest.raises(ConfigError, match="'unused' of Pyramid recorded nothing"):
            kept["unused"]
        with pytest.raises(ConfigError, match="'stem' of Pyramid is not recorded; add it to"):
            kept["stem"]

    def test_containers_name_their_parts_and_others_near_names(self):
        model = nn.ModuleDict({"towers": nn.ModuleList([nn.ReLU()]), "tower": nn.ReLU()})
        model.forward = lambda x: x
        with Recorder(model, ["towers", "tower"]) as recorder:
            model(torch.ones(1))
            with pytest.raises(ConfigError, match=r"every batch, such as towers\.0"):
                recorder["towers"]
            with pytest.raises(ConfigError, match="every batch, such as towers"):
                recorder["tower"]


class Named(NamedTuple):
    box: torch.Tensor
    rest: list


def test_nested_values_are_changed_tensor_by_tensor_and_keep_their_kinds():
    one, two, three = (torch.full((1,), float(i)) for i in (1, 2, 3))
    value = OrderedDict(a=Named(one, [two, "text"]), b=(Assigned(three, "rows"), None))
    model = nn.Identity()
    with Recorder(model, [""]) as recorder:
        model(value)
        assert [t.item() for t in recorder[""]] == [1, 2, 3]
        kept = recorder.kept(lambda t: 10 * t).value("")
    assert type(kept) is OrderedDict
    assert isinstance(kept["a"], Named)
    assert kept["a"].rest[1] == "text"
    assert [kept["a"].box.item(), kept["a"].rest[0].item()] == [10, 20]
    assert kept["b"][0].rows.item() == 30
    assert kept["b"][0].name == "rows"
    assert value["a"].box.item() == 1


@dataclass(frozen=True)
class Assigned:
    rows: torch.Tensor
    name: str


class Assigning(nn.Module):
    def assign(self, x, *, least):
        return Assigned((x > least).nonzero(), "rows")

    def forward(self, x):
        return self.assign(x, least=0).rows


class TestMethods:
    def test_a_method_is_recorded_and_left_as_it_was(self):
        model = Assigning()
        with Recorder(model, ["assign()", "assign():input", "assign()@0"]) as recorder:
            rows = model(torch.tensor([-1.0, 2.0]))
            assert recorder.value("assign()").rows is rows
            assert recorder.value("assign()").name == "rows"
            assert recorder["assign()@0"] == [rows]
            assert recorder.value("assign():input")[1] == {"least": 0}
        assert "assign" not in vars(model)

    def test_it_is_left_as_it_was_when_it_raises(self):
        model = Assigning()
        with pytest.raises(TypeError), Recorder(model, ["assign()", "assign()@0"]):
            model("text")
        assert "assign" not in vars(model)

    def test_functions_of_the_instance_come_back(self):
        model = Assigning()
        model.assign = own = lambda x, least: Assigned(x, "own")
        with Recorder(model, ["assign()", "assign():input"]):
            model(torch.ones(1))
        assert vars(model)["assign"] is own

    def test_unknown_and_unused_ones_are_told(self):
        with pytest.raises(ConfigError, match="no method 'asign' to record; did you mean 'assign'"):
            Recorder(Assigning(), ["asign()"])
        idle = pytest.raises(ConfigError, match=r"nothing: the method did not run in the forw")
        with Recorder(Assigning(), ["assign()"]) as recorder, idle:
            recorder.value("assign()")
