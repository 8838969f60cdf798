"""Subnets written as MMRazor's files: what was read is written again."""

import copy

import pytest
import torch
import yaml
from torch import nn

from razorlite.core.errors import SubnetError
from razorlite.models.backbones.choice_blocks import MBBlock
from razorlite.prune import Channels, ChannelWidths
from razorlite.search.spaces import OnceForAll, save_mmrazor
from razorlite.space import Subnet
from tests.space.supernets import published_space, toy_space
from tests.space.test_once_for_all import classifier


def tree_of(path):
    return yaml.safe_load(path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "version"), [("spos_0x_paper", "0.x"), ("detnas_0x", "0.x"), ("spos_1x", "1.x")]
)
def test_published_operations_are_written_as_they_came(test_data, tmp_path, name, version):
    source = test_data / "published_subnets" / f"{name}.yaml"
    with torch.device("meta"):
        space = published_space()
    save_mmrazor(space, space.load(source), tmp_path / "again.yaml", version)
    assert tree_of(tmp_path / "again.yaml") == tree_of(source)


@pytest.mark.slow
def test_published_once_for_all_networks_are_written_as_they_came(test_data, tmp_path):
    folder = test_data.parent / "figures" / "published_spaces"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    with torch.device("meta"):
        space = OnceForAll().prepare(classifier("mobilenetv3", 1.0))
    for source in sorted(folder.glob("mmrazor_ofa_*.yaml")):
        subnet = space.load(source)
        save_mmrazor(space, subnet, tmp_path / "again.yaml")
        theirs, ours = tree_of(source), tree_of(tmp_path / "again.yaml")
        assert ours.keys() <= theirs.keys()
        # one file lists squeezes of a stage that has none
        assert all(k.startswith("backbone.layers.4.") for k in theirs.keys() - ours.keys())
        odd = {key for key in ours if ours[key] != theirs[key]}
        # a squeeze has its block's ratio here, and a block that is not there the smallest
        assert all(key.endswith("_se") or not there(key, theirs) for key in odd), odd
        assert space.load(tmp_path / "again.yaml") == subnet


def there(key, tree):
    path = key.rpartition(".")[0]
    stage, _, number = path.rpartition(".")
    return int(number) < tree[f"{stage}.depth"]["chosen"]


def test_operations_by_name_and_by_module(tmp_path):
    space = toy_space()
    subnet = Subnet(choices={"tied": "conv1", "free": "conv3"})
    save_mmrazor(space, subnet, tmp_path / "old.yaml", "0.x")
    assert tree_of(tmp_path / "old.yaml") == {
        "free": {"chosen": ["conv3"]},
        "tied": {"chosen": ["conv1"]},
    }
    save_mmrazor(space, subnet, tmp_path / "new.yaml")
    chosen = {"first": "conv1", "second": "conv1", "third": "conv3"}
    assert tree_of(tmp_path / "new.yaml") == {k: {"chosen": v} for k, v in chosen.items()}
    for name in ("old.yaml", "new.yaml"):
        assert space.load(tmp_path / name).choices == subnet.choices


def test_widths_are_written_as_autoslim_wrote_them(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 4, 1))
    space = ChannelWidths(shares=[0.5]).prepare(copy.deepcopy(net), (8, 8))
    save_mmrazor(space, Subnet(choices={"0.width": 8}), tmp_path / "slim.yaml", "0.x")
    known = ("in_channels", "out_channels", "raw_in_channels", "raw_out_channels")
    assert tree_of(tmp_path / "slim.yaml") == {
        "0": dict(zip(known, (3, 8, 3, 16), strict=True)),
        "3": dict(zip(known, (8, 4, 16, 4), strict=True)),
    }
    slim = Channels(net, (8, 8)).slim(Subnet.load(tmp_path / "slim.yaml"))
    images = torch.rand(2, 3, 8, 8)
    exported = space.export(Subnet(choices={"0.width": 8}))
    torch.testing.assert_close(slim.eval()(images), exported.eval()(images))


def test_spaces_that_mmrazor_has_not_are_refused(tmp_path):
    block = OnceForAll(kernel_sizes=[1, 3], expand_ratios=[1, 3]).prepare(one_block())
    largest = {"block.0.kernel_size": 3, "block.0.expand_ratio": 3}
    with pytest.raises(SubnetError, match=r"MMRazor 0\.x has no subnets of such a space: block\.0"):
        save_mmrazor(block, Subnet(choices=largest), tmp_path / "a.yaml", "0.x")
    assert not (tmp_path / "a.yaml").exists()


def one_block():
    block = MBBlock(in_channels=4, out_channels=4, kernel_size=3, expand_ratio=3)
    return nn.ModuleDict({"block": nn.Sequential(block)})
