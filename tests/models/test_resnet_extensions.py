"""Plugins, deep stems, deformable stages and checkpointed blocks of ResNet."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn, tensor
from torch.testing import assert_close
from torchvision import models as zoo

from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.models.backbones.resnet import ResNet
from razorlite.models.backbones.resnet_blocks import PluginConfig
from razorlite.models.deformable import DeformableConv2d, DeformConfig
from razorlite.models.plugins import CBAM, ContextBlock, SqueezeExcite
from tests.models import golden

LATE = (False, False, False, True)


def _context(**options: Any) -> PluginConfig:
    return PluginConfig(layer=partial(ContextBlock, ratio=1 / 4), **options)


def test_context_blocks_have_the_references_names_and_shapes():
    plugins = [_context(stages=(False, True, True, True))]
    with torch.device("meta"):
        model = golden.mask_rcnn_r50(plugins=plugins)
    have = [(key, tuple(value.shape)) for key, value in model.state_dict().items()]
    assert have == golden.keys("mask_rcnn_r50_gcb")


def test_context_block_against_a_loop():
    torch.manual_seed(0)
    block = ContextBlock(in_channels=8, ratio=0.5)
    nn.init.normal_(block.channel_add_conv[-1].weight)
    x = torch.randn(2, 8, 3, 4)
    first, norm, _, last = block.channel_add_conv
    want = torch.empty_like(x)
    for n in range(2):
        weight = (x[n] * block.conv_mask.weight[0]).sum(0).add(block.conv_mask.bias).exp()
        context = (x[n] * weight).sum((1, 2)) / weight.sum()
        hidden = first.weight[:, :, 0, 0] @ context + first.bias
        hidden = (hidden - hidden.mean()) / (hidden.var(unbiased=False) + 1e-5).sqrt()
        hidden = (hidden * norm.weight.flatten() + norm.bias.flatten()).relu()
        want[n] = x[n] + (last.weight[:, :, 0, 0] @ hidden + last.bias)[:, None, None]
    assert_close(block(x), want)


def test_context_block_starts_as_the_identity():
    x = torch.randn(1, 16, 4, 4)
    assert torch.equal(ContextBlock(in_channels=16)(x), x)


def test_squeeze_excite_and_cbam_by_hand():
    se, cbam = SqueezeExcite(in_channels=1, ratio=1), CBAM(in_channels=1, ratio=1, kernel_size=1)
    for layer in (*se.children(), *cbam.channel.children(), cbam.spatial):
        if isinstance(layer, nn.Conv2d):
            nn.init.ones_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    x = tensor([[[[1.0, 3.0]]]])
    assert_close(se(x), x * tensor(2.0).sigmoid())
    weighed = x * tensor(2.0 + 3.0).sigmoid()
    assert_close(cbam(x), weighed * (2 * weighed).sigmoid())


@pytest.mark.parametrize("position", ["after_conv1", "after_conv2", "after_conv3"])
@torch.no_grad()
def test_plugins_stand_where_they_are_put(position):
    """Each stands behind the norm (and activation) of its convolution."""
    plain = ResNet(depth=50, out_indices=(0,), zero_init_residual=False).eval()
    options = {"position": position, "stages": (True, False, False, False)}
    extended = ResNet(
        depth=50, out_indices=(0,), plugins=[PluginConfig(layer=_Doubling, **options)]
    ).eval()
    extended.load_state_dict(plain.state_dict())
    if position == "after_conv3":
        for block in plain.layer1:
            block.bn3.weight.mul_(2)
            block.bn3.bias.mul_(2)
    else:
        following = 2 if position == "after_conv1" else 3
        for block in plain.layer1:
            getattr(block, f"conv{following}").weight.mul_(2)
    images = torch.randn(1, 3, 32, 32)
    assert_close(extended(images), plain(images), rtol=1e-4, atol=1e-4)


class _Doubling(ContextBlock):
    def __init__(self, *, in_channels: int) -> None:
        nn.Module.__init__(self)

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x

    def init_weights(self) -> None:
        pass


def test_two_of_a_kind_in_a_block_differ_by_postfix():
    plugins = [_context(position="after_conv2", stages=LATE, postfix="_a"), _context(stages=LATE)]
    block = ResNet(depth=50, plugins=plugins).layer4[0]
    assert block.context_block_a.conv_mask.in_channels == 512
    assert block.context_block.conv_mask.in_channels == 2048


def test_deformable_convolution_without_offsets_is_a_plain_one():
    x = torch.randn(2, 4, 6, 7)
    for modulated, share in ((False, 1.0), (True, 0.5)):
        conv = DeformableConv2d(4, 8, 3, stride=2, padding=1, modulated=modulated)
        plain = nn.functional.conv2d(x, conv.weight, stride=2, padding=1)
        assert_close(conv(x), plain * share, rtol=1e-4, atol=1e-5)


def test_an_offset_of_one_column_looks_one_pixel_to_the_right():
    conv = DeformableConv2d(1, 1, 1, modulated=False)
    nn.init.ones_(conv.weight)
    conv.conv_offset.bias.data = tensor([0.0, 1.0])
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert conv(x).tolist() == [[[[1, 2, 0], [4, 5, 0]]]]


def test_deformable_stages_have_offsets_that_learn():
    backbone = ResNet(depth=50, deform=DeformConfig(stages=LATE), zero_init_residual=False)
    assert "layer4.0.conv2.conv_offset.weight" in backbone.state_dict()
    assert "layer3.0.conv2.conv_offset.weight" not in backbone.state_dict()
    backbone(torch.randn(1, 3, 64, 64))[-1].square().sum().backward()
    assert backbone.layer4[1].conv2.conv_offset.weight.grad.abs().sum() > 0


def test_thin_networks_have_fewer_channels_everywhere():
    thin = ResNet(depth=18, base_channels=16, deep_stem=True, out_indices=(0, 2))
    assert thin.out_channels == (16, 64)
    assert [m.out_channels for m in thin.stem.modules() if isinstance(m, nn.Conv2d)] == [8, 8, 16]
    assert ResNet(depth=50, base_channels=8).out_channels == (32, 64, 128, 256)
    maps = thin(torch.zeros(1, 3, 32, 32))
    assert [tuple(m.shape) for m in maps] == [(1, 16, 8, 8), (1, 64, 2, 2)]


def test_deep_stem_and_averaged_shortcuts():
    backbone = ResNet(depth=50, deep_stem=True, avg_down=True, frozen_stages=1)
    names = set(backbone.state_dict())
    assert {"stem.0.weight", "stem.7.running_var", "layer2.0.downsample.1.weight"} <= names
    assert "conv1.weight" not in names
    assert not any(p.requires_grad for p in backbone.stem.parameters())
    maps = backbone(torch.randn(1, 3, 65, 97))
    assert [tuple(m.shape[-2:]) for m in maps] == [(17, 25), (9, 13), (5, 7), (3, 4)]


@pytest.mark.parametrize("depth", [18, 50])
def test_checkpointed_blocks_train_exactly_as_plain_ones(depth):
    torch.manual_seed(0)
    plain = ResNet(depth=depth, zero_init_residual=False, frozen_stages=1).train()
    saving = ResNet(depth=depth, with_cp=True, frozen_stages=1).train()
    saving.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 64, 64)
    for model in (plain, saving):
        model(images)[-1].square().mean().backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        assert a.grad is None or torch.equal(a.grad, b.grad), name
    # the second computation must not count the batch again
    for (name, a), b in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_checkpointed_blocks_keep_less():
    def kept(with_cp: bool) -> int:
        sizes: list[int] = []

        def note(x: Tensor) -> Tensor:
            sizes.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            model(with_cp)(torch.randn(1, 3, 64, 64, requires_grad=True))
        return sum(sizes)

    def model(with_cp: bool) -> ResNet:
        return ResNet(depth=18, with_cp=with_cp, norm_eval=True)

    assert kept(True) < kept(False) / 3


@pytest.mark.parametrize(
    "options",
    [
        {"with_cp": True},
        {"deep_stem": True, "avg_down": True},
        {"deform": DeformConfig(stages=LATE)},
        {"plugins": [_context(stages=LATE)]},
        {"plugins": [PluginConfig(layer=CBAM), PluginConfig(layer=SqueezeExcite)]},
    ],
    ids=["with_cp", "deep_stem", "deform", "context", "cbam_se"],
)
@torch.no_grad()
def test_traced_is_the_same(options):
    backbone = ResNet(depth=50, **options).eval()
    images = torch.randn(1, 3, 64, 64)
    assert_close(fx.symbolic_trace(backbone)(images), backbone(images))


def test_pretrained_weights_may_lack_what_is_added(tmp_path):
    state = zoo.resnet50(weights=None).state_dict()
    torch.save(state, tmp_path / "r50.pth")
    options = {"plugins": [_context(stages=LATE)], "deform": DeformConfig(stages=LATE)}
    backbone = ResNet(depth=50, pretrained=str(tmp_path / "r50.pth"), **options)
    assert torch.equal(backbone.layer4[0].conv2.weight, state["layer4.0.conv2.weight"])
    with pytest.raises(CheckpointError, match=r"stem\.0\.weight is missing"):
        ResNet(depth=50, deep_stem=True, pretrained=str(tmp_path / "r50.pth"), **options)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ResNet(depth=18, plugins=[_context()]), "depth of 50 or more, got depth 18"),
        (lambda: ResNet(depth=34, deform=DeformConfig()), "depth of 50 or more, got depth 34"),
        (lambda: ResNet(depth=50, deform=DeformConfig(stages=(True,))), "4 truth values"),
        (
            lambda: CBAM(in_channels=16, kernel_size=2),
            "kernel_size wants a value that is odd, got 2",
        ),
        (lambda: ContextBlock(in_channels=8), "no channel of 8"),
    ],
)
def test_wrong_arguments_name_what_is_wanted(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def test_deformable_convolutions_compute_in_16_bits():
    """The operator has no such kernel on processors; its input and output have 16 bits."""
    layer, x = DeformableConv2d(4, 6, 3, padding=1), torch.rand(1, 4, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x.bfloat16())
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.float(), layer(x), atol=0.05)
    out.float().sum().backward()
    assert layer.conv_offset.weight.grad is not None
