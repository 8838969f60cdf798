"""What a training starts from."""

import shutil

import pytest
import torch

from razorlite import recipes
from razorlite.core.errors import CheckpointError
from razorlite.engine.checkpoint import read_checkpoint
from razorlite.engine.checkpoint_io import save_checkpoint
from razorlite.models.backbones.resnet import ResNet
from razorlite.models.backbones.torchvision_backbone import TorchvisionBackbone
from razorlite.prune import ChannelWidths
from razorlite.recipes.starting import _unloaded, unfreeze
from tests.recipes.test_classes import PLAIN, plain

FROZEN = {**PLAIN, "backbone": {**PLAIN["backbone"], "frozen_stages": 1, "norm_eval": True}}
STEM = "backbone.conv1.0.weight"
MEAN = "backbone.conv1.1.running_mean"


def trained(folder, *overrides, **more):
    """Return the weights of a short training and its checkpoint's path."""
    recipes.train(plain(model=FROZEN, **more), folder, list(overrides))
    path = folder / "checkpoints/last.pt"
    return read_checkpoint(path)["model"], path


@pytest.fixture(scope="module")
def first(module_path):
    """The folder of a short training, which stays as it is."""
    trained(module_path / "first")
    return module_path / "first"


@pytest.fixture
def run(first, tmp_path):
    """A copy of it, with its checkpoint's path."""
    shutil.copytree(first, tmp_path / "run")
    return tmp_path / "run", tmp_path / "run/checkpoints/last.pt"


def initial():
    torch.manual_seed(0)
    return recipes.build_model(plain(model=FROZEN)).state_dict()


class TestFrozenParts:
    def test_without_weights_all_of_it_is_trained_and_that_is_said(self, tmp_path, caplog):
        weights, _ = trained(tmp_path / "run")
        notes = [m for m in caplog.messages if "no weights were loaded" in m]
        assert len(notes) == 1
        assert "model.backbone has frozen_stages: 1, norm_eval: true" in notes[0]
        assert not torch.equal(weights[MEAN], torch.zeros_like(weights[MEAN]))

    def test_weights_that_were_loaded_stay_frozen(self, run, tmp_path, caplog):
        _, path = run
        first = read_checkpoint(path)["model"]
        second, _ = trained(tmp_path / "second", f"load_from={path}")
        assert not [m for m in caplog.messages if "no weights" in m]
        for name in (STEM, MEAN):
            assert torch.equal(first[name], second[name])
        assert not torch.equal(first["neck.fpn_convs.0.conv.weight"],
                               second["neck.fpn_convs.0.conv.weight"])  # fmt: skip

    def test_a_resumed_run_trains_the_same_part(self, tmp_path):
        three = {"max_steps": 3, "save_every": 1, "keep": 9}
        three["optimizer"] = {"type": "SGD", "lr": 1e-2, "momentum": 0.9}
        whole, path = trained(tmp_path / "run", train=three)
        path.unlink()
        path.with_name("step_00000001.pt").rename(path)
        recipes.train(plain(model=FROZEN, train=three), tmp_path / "run", resume=True)
        resumed = read_checkpoint(path)["model"]
        assert all(torch.equal(resumed[name], whole[name]) for name in whole)
        assert read_checkpoint(path)["meta"]["unfrozen"] == ["backbone"]


@pytest.mark.parametrize(
    ("options", "held"),
    [
        ({}, False),
        ({"frozen_stages": 0}, True),
        ({"norm_frozen": True}, True),
        ({"norm_eval": True}, True),
    ],
)
def test_all_ways_to_freeze_a_resnet(options, held):
    backbone = ResNet(depth=18, out_indices=(0,), **options)
    assert bool(list(_unloaded(backbone, ()))) == held
    assert not list(_unloaded(backbone, backbone.state_dict().keys()))
    unfreeze(backbone, [""])
    backbone.train()
    assert all(p.requires_grad for p in backbone.parameters())
    assert all(module.training for module in backbone.modules())
    assert not list(_unloaded(backbone, ()))


def test_pretrained_backbones_stay_frozen(tmp_path):
    torch.save(ResNet(depth=18).state_dict(), tmp_path / "r18.pt")
    backbone = ResNet(depth=18, frozen_stages=1, pretrained=str(tmp_path / "r18.pt"))
    assert not list(_unloaded(backbone, ()))


def test_cut_classifiers():
    backbone = TorchvisionBackbone(name="mobilenet_v2", nodes=["features.3"], frozen=["features.0"])
    assert [name for name, _ in _unloaded(backbone, ())] == [""]
    unfreeze(backbone, [""])
    assert all(p.requires_grad for p in backbone.train().parameters())


def test_broken_pretrained_weights_are_refused(tmp_path):
    weights = ResNet(depth=18).state_dict()
    weights["bn1.running_var"][0] = float("nan")
    torch.save(weights, tmp_path / "r18.pt")
    with pytest.raises(CheckpointError, match=r"first: bn1.running_var is not finite"):
        ResNet(depth=18, pretrained=str(tmp_path / "r18.pt"))


def test_resuming_from_broken_weights_names_the_tensor(run):
    folder, path = run
    content = read_checkpoint(path)
    content["model"][MEAN][0] = float("nan")
    save_checkpoint(path, content)
    with pytest.raises(CheckpointError, match=rf"model.{MEAN} is not finite"):
        recipes.train(plain(model=FROZEN), folder, resume=True)


@pytest.mark.parametrize("name", ["nothing", "backbone.conv1"])
def test_resuming_with_unfrozen_modules_that_are_not_there(run, name):
    folder, path = run
    content = read_checkpoint(path)
    content["meta"]["unfrozen"] = [name]
    save_checkpoint(path, content)
    with pytest.raises(CheckpointError, match=rf"lets \['{name}'\] learn"):
        recipes.train(plain(model=FROZEN), folder, resume=True)


def test_channels_of_a_plain_detector_are_sorted_and_those_of_a_supernet_stay(
    run, tmp_path, monkeypatch
):
    sorted_of = []
    monkeypatch.setattr(ChannelWidths, "loaded", lambda self, model: sorted_of.append(model))
    _, path = run
    widths = {"type": "ChannelWidths", "shares": [0.5], "sort_channels": True}
    for name in ("supernet", "longer"):
        _, path = trained(tmp_path / name, f"load_from={path}", mutator=widths)
        assert len(sorted_of) == 1


@pytest.mark.slow
def test_channels_of_a_pretrained_backbone_are_sorted(tmp_path, monkeypatch):
    sorted_of = []
    monkeypatch.setattr(ChannelWidths, "loaded", lambda self, model: sorted_of.append(model))
    torch.save(ResNet(depth=18).state_dict(), tmp_path / "r18.pt")
    backbone = {"type": "ResNet", "depth": 18, "out_indices": [1]}
    neck = {**PLAIN["neck"], "in_channels": [128]}
    widths = {"type": "ChannelWidths", "shares": [0.5], "sort_channels": True}
    for weights, count in ((None, 0), (str(tmp_path / "r18.pt"), 1)):
        model = {**PLAIN, "backbone": {**backbone, "pretrained": weights}, "neck": neck}
        recipes.train(plain(model=model, mutator=widths), tmp_path / f"run_{count}")
        assert len(sorted_of) == count


def test_a_supernet_is_told_that_its_weights_have_seen_what_is_held_out(tmp_path, caplog):
    _, path = trained(tmp_path / "plain")
    widths = {"type": "ChannelWidths", "shares": [0.5]}
    trained(tmp_path / "supernet", f"load_from={path}", mutator=widths)
    assert f"{path} does not say which images it was trained on" in caplog.text
