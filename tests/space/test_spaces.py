"""Every search space keeps the contract."""

import pytest
import torch
from torch import nn

from razorlite.models import backbones as backbones
from razorlite.models.backbones.cspnext import CSPNeXt
from razorlite.models.backbones.once_for_all import OFANet
from razorlite.models.backbones.resnet import ResNet
from razorlite.models.detectors.detr import DETR
from razorlite.models.detectors.single_stage import RTMDet
from razorlite.models.heads.detr_head import DETRHead
from razorlite.models.heads.rtmdet_head import RTMDetSepBNHead
from razorlite.models.necks.channel_mapper import ChannelMapper
from razorlite.models.necks.cspnext_pafpn import CSPNeXtPAFPN
from razorlite.models.transformer import DetrDecoder, DetrEncoder
from razorlite.prune.widths import ChannelWidths
from razorlite.recipes.building import build
from razorlite.recipes.experiment import read
from razorlite.search.spaces import (
    BlockWidths,
    ElasticQueries,
    InputScales,
    MixedPrecision,
    OnceForAll,
)
from razorlite.space import ElasticDepth, prepare
from tests.space.contract import SpaceContract
from tests.space.supernets import mobile_space, shuffle_space
from tests.space.units import Units, units_mutator


class TestOnceForAllMobileNetV3(SpaceContract):
    shape = (32, 32)

    def plain(self):
        return OFANet(out_indices=(1, 2), depth=3, width_mult=0.5)

    def prepared(self, model):
        torch.manual_seed(3)
        space = OnceForAll().prepare(model)
        for name, parameter in space.model.named_parameters():
            if ".matrix_" in name:  # identities would hide a wrong order of multiplication
                nn.init.normal_(parameter, std=0.2)
        return space


class TestOnceForAllProxyless(SpaceContract):
    shape = (32, 32)

    def plain(self):
        return OFANet(arch="proxyless", out_indices=(1,), depth=2, width_mult=0.5)

    def prepared(self, model):
        return OnceForAll(kernel_matrices=False, depths=[1, 2]).prepare(model)


class TestShuffleNetV2(SpaceContract):
    shape = (32, 32)
    shares_weights = False

    def plain(self):
        return None

    def prepared(self, model):
        return shuffle_space()


class TestMobileNetV2(SpaceContract):
    shape = (32, 32)
    shares_weights = False

    def plain(self):
        return None

    def prepared(self, model):
        return mobile_space(0.125)


class TestShuffleNetV2WithWidths(SpaceContract):
    shape = (32, 32)
    shares_weights = False

    def plain(self):
        return Units()

    def prepared(self, model):
        return prepare(model, [units_mutator(), BlockWidths(scales=[0.25, 0.5, 1.0, 2.0])])


def rtmdet() -> RTMDet:
    """Return a small RTMDet with two blocks in its third stage, its neck and its towers."""
    return RTMDet(
        backbone=CSPNeXt(deepen_factor=0.34, widen_factor=0.125, out_indices=(1, 2)),
        neck=CSPNeXtPAFPN(in_channels=(32, 64), out_channels=32, num_csp_blocks=2),
        bbox_head=RTMDetSepBNHead(num_classes=3, in_channels=32, feat_channels=32, strides=(8, 16)),
    )


class TestRTMDet(SpaceContract):
    """Depth, widths of all parts, convolutions of the head, and resolution in one space."""

    def plain(self):
        return rtmdet()

    def prepared(self, model):
        depth = ElasticDepth(
            stages={
                "backbone.stage?.*.blocks": [1],
                "neck.*.blocks": [1],
                "bbox_head.*_convs.?": "head_convs",
            },
            dimensions={"head_convs": [1, 2]},
        )
        widths = ChannelWidths(shares=[0.5], round_to=8, ignore=["backbone.stage4*"])
        return prepare(model, [depth, widths, InputScales(scales=[0.5])], self.shape)


class TestDETR(SpaceContract):
    """Decoder layers, queries and resolution."""

    def plain(self):
        return DETR(
            backbone=ResNet(depth=18, out_indices=(1,), strides=(2, 2, 2, 2)),
            neck=ChannelMapper(in_channels=(128,), out_channels=16, kernel_size=1, activation=None),
            bbox_head=DETRHead(num_classes=3, embed_dims=16),
            encoder=DetrEncoder(num_layers=1, embed_dims=16, num_heads=2, feedforward_channels=8),
            decoder=DetrDecoder(num_layers=3, embed_dims=16, num_heads=2, feedforward_channels=8),
            num_queries=8,
        )

    def prepared(self, model):
        layers = ElasticDepth(stages={"decoder.layers": [1, 2]})
        preparers = [layers, ElasticQueries(queries=[3, 5]), InputScales(scales=[0.5, 0.75])]
        return prepare(model, preparers, self.shape)


class TestMixedPrecision(SpaceContract):
    """The plain model has no steps, and no rounding."""

    shape = (32, 32)
    shares_weights = False

    def plain(self):
        return ResNet(depth=18, out_indices=(0,))

    def prepared(self, model):
        bits = {"weight_bits": [1, 2, 8], "input_bits": [1, 4, 32]}
        return MixedPrecision(blocks=["layer1.?"], **bits).prepare(model)


@pytest.mark.slow
def test_torchvisions_retinanet_by_its_channel_groups_from_yaml():
    model = {
        "type": "torchvision.models.detection.retinanet_resnet50_fpn",
        "weights": None,
        "weights_backbone": None,
        "num_classes": 4,
        "min_size": 64,
        "max_size": 64,
    }
    tree = {"model": model, "mutator": {"type": "ChannelWidths", "shares": [0.5]}}
    space = build(read({**tree, "shape": [64, 64]})[1]).space
    assert len(space.dimensions) == 47
    small = space.decode([0] * 47)
    space.select(small)
    exported, images = space.export(small).eval(), [torch.rand(3, 64, 64)]
    (ours,), (theirs,) = space.model.eval()(images), exported(images)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert exported.backbone.body.conv1.out_channels == 32
