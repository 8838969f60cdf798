"""MobileNets, vision transformers and torchvision's classifiers as backbones."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.testing import assert_close
from torchvision import models as zoo

from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.models.backbones.mobilenet import MobileNetV2, MobileNetV3
from razorlite.models.backbones.torchvision_backbone import TorchvisionBackbone
from razorlite.models.backbones.vit import VisionTransformer, resize_positions

ALL = (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda **o: MobileNetV2(**o), zoo.mobilenet_v2),
        (lambda **o: MobileNetV3(arch="large", **o), zoo.mobilenet_v3_large),
        (lambda **o: MobileNetV3(arch="small", **o), zoo.mobilenet_v3_small),
    ],
)
@torch.no_grad()
def test_mobilenets_are_torchvisions(ours, theirs, tmp_path):
    original = theirs(weights=None).eval()
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    backbone = ours(out_indices=ALL, pretrained=str(tmp_path / "weights.pth")).eval()
    images = torch.randn(1, 3, 64, 96)
    maps = backbone(images)
    assert_close(maps[-1], original.features(images))
    assert [64 // m.shape[2] for m in maps] == [4, 8, 16, 32, 32]
    assert tuple(m.shape[1] for m in maps) == backbone.out_channels
    assert_close(fx.symbolic_trace(backbone)(images), maps)


@pytest.mark.parametrize("build", [MobileNetV2, MobileNetV3])
def test_frozen_stages_of_mobilenets_do_not_learn(build):
    backbone = build(width=0.5, frozen_stages=1, norm_eval=True)
    learning = {n.split(".")[1] for n, p in backbone.named_parameters() if p.requires_grad}
    still = {n.split(".")[1] for n, p in backbone.named_parameters() if not p.requires_grad}
    assert still == {"0", "1", "2", "3"}
    assert not learning & still
    assert "18" not in learning  # the last stages are not built
    assert not any(m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm2d))


@torch.no_grad()
def test_vit_against_torchvision():
    """torchvision's ViT-B/16 has the same arithmetic under other names."""
    original = zoo.vit_b_16(weights=None).eval()
    nn.init.normal_(original.encoder.pos_embedding, std=0.5)
    mine = VisionTransformer(arch="base").eval()
    theirs = original.state_dict()
    for name in mine.state_dict():
        mine.get_parameter(name).copy_(theirs[_torchvision_name(name)])
    images = torch.randn(1, 3, 224, 224)
    tokens = original._process_input(images)
    tokens = original.encoder(torch.cat((original.class_token, tokens), 1))
    assert_close(mine(images)[0].flatten(2).mT, tokens[:, 1:], rtol=1e-3, atol=1e-4)


def _torchvision_name(name: str) -> str:
    top = {
        "cls_token": "class_token",
        "pos_embed": "encoder.pos_embedding",
        "patch_embed.proj.weight": "conv_proj.weight",
        "patch_embed.proj.bias": "conv_proj.bias",
        "norm.weight": "encoder.ln.weight",
        "norm.bias": "encoder.ln.bias",
    }
    if name in top:
        return top[name]
    _, number, part = name.split(".", 2)
    swaps = [("norm1", "ln_1"), ("norm2", "ln_2"), ("attn.qkv.", "self_attention.in_proj_")]
    swaps += [("attn.proj", "self_attention.out_proj"), ("mlp.fc1", "mlp.0"), ("mlp.fc2", "mlp.3")]
    for old, new in swaps:
        part = part.replace(old, new)
    return f"encoder.layers.encoder_layer_{number}.{part}"


@pytest.mark.parametrize(
    ("arch", "params"), [("tiny", 5_524_416), ("small", 21_665_664), ("base", 85_798_656)]
)
def test_vit_has_the_published_size(arch, params):
    """DeiT's 5.7, 22 and 86 million without the classifier's D * 1000 + 1000."""
    with torch.device("meta"):
        backbone = VisionTransformer(arch=arch)
    assert sum(p.numel() for p in backbone.parameters()) == params


@torch.no_grad()
def test_vit_takes_images_of_any_size_and_traces():
    backbone = VisionTransformer(out_indices=(1, 11)).eval()
    graph = fx.symbolic_trace(backbone)
    for size in ((64, 96), (224, 224), (70, 40)):
        images = torch.randn(2, 3, *size)
        maps = backbone(images)
        assert [m.shape for m in maps] == [(2, 192, size[0] // 16, size[1] // 16)] * 2
        assert_close(graph(images), maps)


def test_positions_are_resized_and_the_class_tokens_is_not():
    positions = torch.randn(1, 1 + 16, 8)
    assert resize_positions(positions, 4, 4) is positions
    resized = resize_positions(positions, 6, 5)
    grid = positions[0, 1:].T.reshape(1, 8, 4, 4)
    want = F.interpolate(grid, (6, 5), mode="bicubic", align_corners=False)
    assert torch.equal(resized[:, 0], positions[:, 0])
    assert_close(resized[0, 1:].T.reshape(1, 8, 6, 5), want)


def test_every_parameter_of_a_vit_learns_but_the_frozen():
    backbone = VisionTransformer(frozen_stages=10)
    backbone(torch.randn(1, 3, 32, 48))[0].square().sum().backward()
    learning = {n.split(".")[1] for n, p in backbone.named_parameters() if p.grad is not None}
    assert learning == {"10", "11", "weight", "bias"}


def test_a_torchvision_classifier_by_node_names():
    backbone = TorchvisionBackbone(
        name="regnet_y_400mf",
        nodes=["trunk_output.block2", "trunk_output.block3", "trunk_output.block4"],
        frozen=["stem"],
        norm_eval=True,
    )
    maps = backbone.train()(torch.randn(1, 3, 64, 96))
    assert backbone.out_channels == (104, 208, 440)
    assert [tuple(m.shape[1:]) for m in maps] == [(104, 8, 12), (208, 4, 6), (440, 2, 3)]
    assert not any(p.requires_grad for p in backbone.body.stem.parameters())
    assert not any(m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm2d))
    assert "fc" not in dict(backbone.body.named_modules())


def test_a_copy_of_a_cut_classifier_trains_and_evaluates_like_it():
    backbone = TorchvisionBackbone(name="resnet18", nodes=["layer1", "layer2"])
    copied, images = copy.deepcopy(backbone), torch.randn(2, 3, 32, 32)
    for training in (True, False):
        assert_close(copied.train(training)(images), backbone.train(training)(images))
    assert {id(p) for p in copied.parameters()}.isdisjoint(map(id, backbone.parameters()))


@torch.no_grad()
def test_a_torchvision_classifier_loads_weights_and_traces(tmp_path):
    original = zoo.resnet18(weights=None).eval()
    torch.save(original.state_dict(), tmp_path / "r18.pth")
    backbone = TorchvisionBackbone(
        name="resnet18", nodes=["layer1", "layer4"], pretrained=str(tmp_path / "r18.pth")
    ).eval()
    images = torch.randn(1, 3, 64, 64)
    x = original.layer1(original.maxpool(original.relu(original.bn1(original.conv1(images)))))
    want = x, original.layer4(original.layer3(original.layer2(x)))
    assert_close(backbone(images), want)
    assert_close(fx.symbolic_trace(backbone)(images), want)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MobileNetV2(out_indices=(5,)), "0 to 4"),
        (lambda: MobileNetV3(arch="tiny"), "small.*got tiny"),
        (lambda: VisionTransformer(image_size=100), "multiple of patch_size"),
        (lambda: VisionTransformer(out_indices=(12,)), "0 to 11"),
        (lambda: TorchvisionBackbone(name="resnet17", nodes=["layer1"]), "did you mean 'resnet1"),
        (lambda: TorchvisionBackbone(name="resnet18", nodes=["layer5"]), "no node 'layer5'"),
        (lambda: TorchvisionBackbone(name="resnet18", nodes=["fc"]), "'fc' of resnet18 gives no"),
        (
            lambda: TorchvisionBackbone(name="resnet18", nodes=["layer1"], frozen=["layer2"]),
            "no module 'layer2'",
        ),
    ],
)
def test_wrong_arguments_name_what_is_wanted(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def test_weights_of_another_model_are_refused(tmp_path):
    torch.save(zoo.resnet18(weights=None).state_dict(), tmp_path / "r18.pth")
    with pytest.raises(CheckpointError, match="do not fit MobileNetV2"):
        MobileNetV2(pretrained=str(tmp_path / "r18.pth"))
