"""Once-for-All: published networks, kernel matrices, sorting, and how files are read."""

import json

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from razorlite.core.errors import ConfigError, SubnetError
from razorlite.cost import count
from razorlite.models.backbones.choice_blocks import MBBlock
from razorlite.models.backbones.once_for_all import OFANet
from razorlite.models.classifier import ImageClassifier
from razorlite.models.heads.linear_head import LinearHead
from razorlite.models.necks.pooling import GlobalAveragePooling, MixedPooling
from razorlite.search.spaces import OnceForAll
from razorlite.search.spaces.once_for_all import sort_inner_channels
from razorlite.space import Subnet


def classifier(arch: str, width: float) -> nn.Module:
    """Return the published network of 1000 classes."""
    backbone = OFANet(arch=arch, width_mult=width)
    last = backbone.out_channels[-1]
    if arch == "proxyless":
        head = LinearHead(num_classes=1000, in_channels=last)
        return ImageClassifier(backbone=backbone, neck=GlobalAveragePooling(), head=head)
    mixed = {960: 1280, 1152: 1536}[last]
    neck = MixedPooling(in_channels=last, out_channels=mixed)
    head = LinearHead(num_classes=1000, in_channels=mixed)
    return ImageClassifier(backbone=backbone, neck=neck, head=head)


@pytest.fixture(scope="module")
def spaces():
    """Return the three published spaces, without values."""
    archs = [("mobilenetv3", 1.0), ("mobilenetv3", 1.2), ("proxyless", 1.3)]
    with torch.device("meta"):
        return {
            (arch, width): OnceForAll().prepare(classifier(arch, width)) for arch, width in archs
        }


def space_of(net, spaces):
    if net["family"] == "ProxylessNASNets":
        return spaces["proxyless", 1.3]
    return spaces["mobilenetv3", 1.0 if net["stem"][0]["outputs"] == 16 else 1.2]


@pytest.fixture(scope="module")
def published(test_data):
    folder = test_data.parent / "figures" / "published_spaces"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


@pytest.mark.slow
def test_published_networks_cost_what_was_counted(published, spaces, tmp_path):
    nets = json.loads((published / "ofa_specialized.json").read_text())["nets"]
    assert len(nets) == 28
    for name, net in nets.items():
        (tmp_path / "net.config").write_text(json.dumps({"blocks": net["blocks"]}))
        space = space_of(net, spaces)
        subnet = space.load(tmp_path / "net.config")
        found = count(space.export(subnet), (net["resolution"], net["resolution"]))
        assert (found.macs, found.params) == (net["macs"], net["params"]), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side", "params", "macs"),
    [("note8_lat22", 140, 4_304_592, 67_196_888), ("note8_lat31", 152, 4_595_536, 100_520_248)],
)
def test_files_of_mmrazor(published, spaces, name, side, params, macs, caplog):
    space = spaces["mobilenetv3", 1.0]
    subnet = space.load(published / f"mmrazor_ofa_{name}.yaml")
    found = count(space.export(subnet), (side, side))
    assert (found.macs, found.params) == (macs, params)
    assert subnet.origin["input_shape"] == [side, side]
    assert ("layers.3.0.expand_ratio_se is 4" in caplog.text) == (name == "note8_lat22")


def block_space(**settings):
    torch.manual_seed(0)
    block = MBBlock(in_channels=4, out_channels=4, kernel_size=5, expand_ratio=3, squeeze=True)
    return OnceForAll(kernel_sizes=[1, 3, 5], expand_ratios=[1, 3], **settings).prepare(
        nn.ModuleDict({"block": block})
    )


def test_smaller_kernels_go_through_every_matrix():
    space = block_space()
    conv = space.model["block"].depthwise_conv.conv
    assert [n for n, _ in conv.named_parameters()] == ["weight", "matrix_3", "matrix_1"]
    with torch.no_grad():
        conv.matrix_3.normal_()
        conv.matrix_1.fill_(2.0)
    small = space.export(Subnet(choices={"block.kernel_size": 1, "block.expand_ratio": 1}))
    three = conv.weight[:4, 0, 1:4, 1:4].flatten(1) @ conv.matrix_3
    assert_close(small["block"].depthwise_conv.conv.weight.flatten(), 2 * three[:, 4])
    assert small["block"].depthwise_conv.conv.kernel_size == (1, 1)


def test_identities_are_the_centre_of_the_kernel():
    space = block_space()
    small = space.export(Subnet(choices={"block.kernel_size": 3, "block.expand_ratio": 3}))
    whole = space.model["block"].depthwise_conv.conv.weight
    assert torch.equal(small["block"].depthwise_conv.conv.weight, whole[:, :, 1:4, 1:4])


def test_matrices_learn():
    space = block_space()
    space.select(Subnet(choices={"block.kernel_size": 3, "block.expand_ratio": 3}))
    space.model["block"](torch.randn(2, 4, 6, 6)).square().sum().backward()
    conv = space.model["block"].depthwise_conv.conv
    assert conv.matrix_3.grad.abs().sum() > 0
    assert conv.matrix_1.grad is None


def test_squeeze_follows_the_ratio():
    block = MBBlock(in_channels=32, out_channels=32, expand_ratio=6, squeeze=True)
    space = OnceForAll(kernel_matrices=False).prepare(nn.Sequential(block))
    small = space.export(Subnet(choices={"0.kernel_size": 3, "0.expand_ratio": 3}))
    assert small[0].squeeze.reduce.weight.shape == (24, 96, 1, 1)  # 96 / 4
    assert small[0].linear_conv.conv.in_channels == 96


def test_sorting_keeps_the_function_and_puts_important_channels_first():
    model = block_space(sort_channels=True).model
    block, x = model["block"].eval(), torch.randn(2, 4, 6, 6)
    for norm in (block.expand_conv.bn, block.depthwise_conv.bn):
        nn.init.uniform_(norm.running_mean)
        nn.init.uniform_(norm.weight)
    before = block(x)
    OnceForAll(sort_channels=True).loaded(model)
    assert_close(block(x), before)
    sums = block.linear_conv.conv.weight.abs().sum((0, 2, 3))
    assert (sums.diff() <= 0).all()
    again = block.expand_conv.conv.weight.clone()
    sort_inner_channels(block)
    assert torch.equal(block.expand_conv.conv.weight, again)


def test_models_without_blocks_are_refused():
    with pytest.raises(
        ConfigError, match="no MBBlock with an expansion matches blocks '\\*' in Seq"
    ):
        OnceForAll().prepare(nn.Sequential(nn.Conv2d(3, 3, 1)))


NET = {"inputs": 8, "outputs": 8, "kernel": 3, "stride": 1, "hidden": 8}
STAGE = [
    {**NET, "stride": 2, "outputs": 16, "hidden": 24},
    {**NET, "inputs": 16, "outputs": 16, "hidden": 16},
]


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([NET, {"kernel": 3}], r"blocks\.1 wants in_channels, .*KeyError: 'in_channels'"),
        ([NET, {**STAGE[0], "hidden": 20}, STAGE[1]], r"layers\.2\.0 expands 8 channels to 20"),
        ([NET, *STAGE], r"layers\.2\.1\.expand_ratio wants one of 3, 6"),
        ([NET, {**STAGE[0], "outputs": 24}], r"another search space: layers\.2 gives 24 .*16 here"),
    ],
)
def test_other_networks_are_refused(blocks, message, tmp_path):
    path = tmp_path / "net.config"
    path.write_text(json.dumps({"blocks": blocks}))
    net = OFANet(width_mult=0.5, out_indices=(1,), depth=2)  # 8, 8 and 16 channels
    space = OnceForAll(expand_ratios=[3], depths=[1, 2]).prepare(nn.ModuleDict({"backbone": net}))
    with pytest.raises(SubnetError, match=message) as caught:
        space.load(path)
    assert "\n" not in str(caught.value)
