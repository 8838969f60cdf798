"""Hooks record what they should and never stay."""

import gc
import weakref

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
    for wrong in ("neck:output", "neck[x]", "neck[1]:input", "neck[-1]"):
        with pytest.raises(ConfigError, match="expected 'module', 'module:input'"):
            Tap.parse(wrong)
