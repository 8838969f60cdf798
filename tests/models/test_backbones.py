import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision import models as zoo

from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.models import pretrained
from razorlite.models.backbones.resnet import ResNet
from razorlite.models.backbones.shufflenet import ShuffleNetV2


def _resnet_features(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    x = model.maxpool(model.relu(model.bn1(model.conv1(images))))
    return [x := stage(x) for stage in (model.layer1, model.layer2, model.layer3, model.layer4)]


def _shufflenet_features(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    x = model.maxpool(model.conv1(images))
    return [x := stage(x) for stage in (model.stage2, model.stage3, model.stage4, model.conv5)]


@pytest.mark.parametrize(
    ("ours", "theirs", "features"),
    [
        (lambda: ResNet(depth=18), zoo.resnet18, _resnet_features),
        (lambda: ResNet(depth=50), zoo.resnet50, _resnet_features),
        (
            lambda: ResNet(depth=50, groups=32, base_width=4),
            zoo.resnext50_32x4d,
            _resnet_features,
        ),
        (
            lambda: ShuffleNetV2(out_indices=(0, 1, 2, 3)),
            zoo.shufflenet_v2_x1_0,
            _shufflenet_features,
        ),
    ],
)
@torch.no_grad()
def test_names_and_maps_equal_torchvision(ours, theirs, features):
    mine, original = ours().eval(), theirs(weights=None).eval()
    state = {k: v for k, v in original.state_dict().items() if not k.startswith("fc.")}
    mine.load_state_dict(state)
    images = torch.randn(2, 3, 64, 96)
    for got, want in zip(mine(images), features(original, images), strict=True):
        assert_close(got, want)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_every_depth_has_torchvisions_shapes(depth):
    with torch.device("meta"):
        mine = ResNet(depth=depth).state_dict()
        original = getattr(zoo, f"resnet{depth}")(weights=None).state_dict()
    assert {k: v.shape for k, v in mine.items()} == {
        k: v.shape for k, v in original.items() if not k.startswith("fc.")
    }


@pytest.mark.parametrize("backbone", [ResNet(depth=18), ShuffleNetV2(width=0.5)])
def test_out_channels_are_those_of_the_maps(backbone):
    maps = backbone(torch.randn(1, 3, 64, 64))
    assert tuple(m.shape[1] for m in maps) == backbone.out_channels


def test_only_the_stages_that_are_returned_are_built():
    names = {name.split(".")[0] for name in ResNet(depth=18, out_indices=(1,)).state_dict()}
    assert names == {"conv1", "bn1", "layer1", "layer2"}
    assert not hasattr(ShuffleNetV2(), "conv5")


def test_dilation_keeps_the_map_large():
    maps = ResNet(depth=18, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2))(torch.randn(1, 3, 64, 64))
    assert maps[-1].shape[-2:] == maps[-2].shape[-2:]


@pytest.mark.parametrize("build", [ResNet, ShuffleNetV2])
def test_frozen_stages_neither_learn_nor_track(build):
    options = {"depth": 18} if build is ResNet else {"width": 0.5}
    backbone = build(**options, frozen_stages=1).train()
    still = [*backbone.stem_modules(), backbone.stages()[0]]
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    sum(m.sum() for m in backbone(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is None for module in still for p in module.parameters())
    assert all(p.grad is not None for p in backbone.stages()[1].parameters())
    changed = {k for k, v in backbone.state_dict().items() if not torch.equal(v, before[k])}
    prefixes = tuple(n for n, m in backbone.named_children() if any(m is s for s in still))
    assert changed
    assert not any(name.startswith(prefixes) for name in changed)


def test_norm_eval_keeps_statistics_while_weights_learn():
    backbone = ResNet(depth=18, norm_eval=True).train()
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not any(n.training for n in norms)
    assert all(n.weight.requires_grad for n in norms)
    frozen = ResNet(depth=18, norm_frozen=True)
    assert not any(p.requires_grad for n, p in frozen.named_parameters() if ".bn" in n)


def test_blocks_start_as_their_shortcut():
    block = ResNet(depth=50).layer1[1].eval()
    x = torch.rand(1, 256, 4, 4)
    assert_close(block(x), x)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: ResNet(depth=20), "18, 34, 50, 101, 152"),
        (lambda: ResNet(depth=18, out_indices=(2, 4)), "0 to 3"),
        (lambda: ResNet(depth=18, groups=2), "depth of 50"),
        (lambda: ResNet(depth=18, strides=(1, 2)), "4 numbers"),
        (lambda: ShuffleNetV2(width=3), "0.5, 1.0, 1.5, 2.0"),
        (lambda: ShuffleNetV2(out_indices=(1, 0)), "that rises"),
    ],
)
def test_wrong_arguments_name_what_is_wanted(build, words):
    with pytest.raises(ConfigError, match=words):
        build()


def test_pretrained_from_a_file_of_a_classifier_or_detector(tmp_path):
    original = zoo.resnet18(weights=None)
    state = original.state_dict()
    torch.save(state, tmp_path / "plain.pth")
    wrapped = {
        "state_dict": {f"backbone.{k}": v for k, v in state.items()} | {"neck.x": state["fc.bias"]}
    }
    torch.save(wrapped, tmp_path / "detector.pth")
    for name in ("plain.pth", "detector.pth"):
        mine = ResNet(depth=18, pretrained=str(tmp_path / name))
        assert torch.equal(mine.layer4[1].conv2.weight, original.layer4[1].conv2.weight)


@pytest.mark.parametrize("name", ["torchvision://resnet18", "ResNet18_Weights.IMAGENET1K_V1"])
def test_pretrained_by_torchvisions_name(name, monkeypatch, tmp_path):
    original = zoo.resnet18(weights=None)
    asked = []

    def download(url, **_):
        asked.append(url)
        torch.save(original.state_dict(), tmp_path / "weights.pth")
        return tmp_path / "weights.pth"

    monkeypatch.setattr(pretrained, "download", download)
    mine = ResNet(depth=18, pretrained=name)
    assert asked == [zoo.ResNet18_Weights.IMAGENET1K_V1.url]
    assert torch.equal(mine.conv1.weight, original.conv1.weight)


def test_pretrained_without_network_says_to_use_a_file(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", fail)
    with pytest.raises(CheckpointError, match=r"cannot download https.*no route.*local"):
        ResNet(depth=18, pretrained="torchvision://resnet18")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("torchvision://resnet17", "no weights 'resnet17'"),
        ("ResNet18_Weights.NONE", "no weights"),
        ("/nowhere/r18.pth", "no pretrained weights at"),
        ("broken.pth", "broken.pth is truncated, damaged or no PyTorch"),
        ("list.pth", "no state dict"),
        ("other.pth", "bn1.running_mean is missing|conv1.weight has shape"),
    ],
)
def test_unusable_weights_are_refused_in_one_line(source, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.pth").write_bytes(b"no zip file")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=words) as caught:
        ResNet(depth=18, pretrained=source)
    assert "\n" not in str(caught.value)
