"""timm's classifiers as backbones, where timm is installed."""

import sys

import pytest
import torch
from torch import fx
from torch.testing import assert_close

from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.models.backbones.timm_backbone import TimmBackbone
from razorlite.models.necks.fpn import FPN


def test_without_timm_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"needs timm, which is not installed; pip install"):
        TimmBackbone(name="resnet18")


@pytest.fixture
def timm():
    return pytest.importorskip("timm", reason="timm is not installed (pip install timm)")


@torch.no_grad()
def test_stages_are_those_of_timm(timm, tmp_path):
    original = timm.create_model("test_resnet").eval()
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    features = timm.create_model("test_resnet", features_only=True, out_indices=(1, 2, 4))
    features.load_state_dict(original.state_dict(), strict=False)
    backbone = TimmBackbone(
        name="test_resnet", out_indices=(1, 2, 4), pretrained=str(tmp_path / "weights.pth")
    ).eval()
    images = torch.randn(1, 3, 64, 96)
    maps = backbone(images)
    for ours, theirs in zip(maps, features.eval()(images), strict=True):
        assert_close(ours, theirs)
    assert backbone.out_channels == tuple(features.feature_info.channels())
    assert backbone.strides == tuple(features.feature_info.reduction())
    assert_close(fx.symbolic_trace(backbone)(images), maps)
    assert not any(name.startswith("fc") for name, _ in backbone.body.named_parameters())


def test_by_default_the_last_three_stages_under_a_pyramid(timm):
    backbone = TimmBackbone(name="test_efficientnet", frozen=["conv_stem"], norm_eval=True)
    assert backbone.strides == (8, 16, 32)
    neck = FPN(in_channels=list(backbone.out_channels), out_channels=8, num_outs=3)
    outs = neck(backbone.train()(torch.randn(2, 3, 64, 64)))
    assert [tuple(x.shape[1:]) for x in outs] == [(8, 8, 8), (8, 4, 4), (8, 2, 2)]
    assert not backbone.body.conv_stem.weight.requires_grad


@torch.no_grad()
def test_nodes_by_name(timm):
    original = timm.create_model("test_resnet").eval()
    backbone = TimmBackbone(name="test_resnet", nodes=["layer2.0.conv1", "layer3"]).eval()
    backbone.body.load_state_dict(original.state_dict(), strict=False)
    images = torch.randn(1, 3, 64, 64)
    x = original.layer1(original.maxpool(original.act1(original.bn1(original.conv1(images)))))
    assert_close(backbone(images)[0], original.layer2[0].conv1(x))
    assert_close(backbone(images)[1], original.layer3(original.layer2(x)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "test_resnett"}, "timm has no classifier 'test_resnett'; did you mean 'test_res"),
        ({"name": "test_resnet", "nodes": ["layer9"]}, "test_resnet has no node 'layer9'; did you"),
        ({"name": "test_resnet", "out_indices": (5,)}, r"out_indices .* 0 to 4, got \(5,\)"),
        ({"name": "test_resnet", "out_indices": (1,), "nodes": ["layer1"]}, "got both"),
        ({"name": "test_resnet", "nodes": ["global_pool"]}, "gives no"),
        ({"name": "test_vit", "nodes": ["blocks.1"]}, r"gives no \(N, C, H, W\) map|traced"),
        ({"name": "test_resnet", "nodes": ["layer1"], "frozen": ["layer2"]}, "no module 'layer2'"),
    ],
)
def test_wrong_arguments_name_what_is_wanted(timm, options, words):
    with pytest.raises(ConfigError, match=words):
        TimmBackbone(**options)


def test_weights_that_cannot_be_had_say_to_use_a_file(timm, monkeypatch):
    create = timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise OSError("no route to the hub\nand more")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(CheckpointError, match=r"\(no route to the hub\); give the path"):
        TimmBackbone(name="test_resnet", pretrained="timm")
