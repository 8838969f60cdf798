"""Small models, each with one thing that a channel tracer must get right, and whole networks."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from razorlite.models.backbones.cspnext import CSPNeXt
from razorlite.models.backbones.resnet import ResNet
from razorlite.models.backbones.shufflenet import ShuffleNetV2
from razorlite.models.classifier import ImageClassifier
from razorlite.models.detectors.single_stage import FCOS, RetinaNet, RTMDet
from razorlite.models.detectors.two_stage import FasterRCNN
from razorlite.models.heads.fcos_head import FCOSHead
from razorlite.models.heads.linear_head import LinearHead
from razorlite.models.heads.region_heads import Shared2FCBBoxHead
from razorlite.models.heads.retina_head import RetinaHead
from razorlite.models.heads.roi_head import StandardRoIHead
from razorlite.models.heads.rpn_head import RPNHead
from razorlite.models.heads.rtmdet_head import RTMDetSepBNHead
from razorlite.models.necks.cspnext_pafpn import CSPNeXtPAFPN
from razorlite.models.necks.fpn import FPN
from razorlite.models.necks.pooling import GlobalAveragePooling
from razorlite.models.tasks.anchors import AnchorGenerator
from razorlite.models.tasks.postprocess import PostProcess
from tests.space.supernets import mobile_space, shuffle_space


def joined(parts: Any, count: int) -> torch.Tensor:
    """Join the first parts of a split of channels, each by its number: other ways PyTorch 2.4's
    torch.fx does not follow."""
    return torch.cat([parts[i] for i in range(count)], 1)


class Net(nn.Module):
    """Layers by name and a function that joins them: `Net(run, a=conv(3, 8), ...)`."""

    def __init__(self, run: Callable[..., Any], **layers: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def conv(inputs: int, outputs: int, kernel: int = 1, **kwargs: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **kwargs)


def shuffled(how: str) -> Net:
    """A shuffle of 2 groups of 4 in one of its spellings, between two convolutions."""

    def with_view(x: Tensor) -> Tensor:
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous()
        return x.view(n, c, h, w)

    def with_reshape(x: Tensor) -> Tensor:
        n, h, w = x.shape[0], x.shape[2], x.shape[3]
        return x.reshape(n, 2, -1, h, w).permute(0, 2, 1, 3, 4).reshape(n, -1, h, w)

    spellings = {
        "view": with_view,
        "reshape": with_reshape,
        "unflatten": lambda x: x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2),
        "function": lambda x: torch.channel_shuffle(x, 2),
        "functional": lambda x: F.channel_shuffle(x, 2),
        "module": nn.ChannelShuffle(2),
    }
    return Net(
        lambda m, x: m.b(m.how(m.a(x))), a=conv(3, 8), how=_Call(spellings[how]), b=conv(8, 2)
    )


class _Call(nn.Module):
    def __init__(self, run: Any) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


class PlainFPN(nn.Module):
    """A user's detector on torchvision parts: resnet18, FeaturePyramidNetwork, one shared head."""

    def __init__(self) -> None:
        super().__init__()
        body = torchvision.models.resnet18()
        self.stem = nn.Sequential(body.conv1, body.bn1, body.relu, body.maxpool)
        self.layers = nn.ModuleList([body.layer1, body.layer2, body.layer3])
        self.fpn = torchvision.ops.FeaturePyramidNetwork([64, 128, 256], 32)
        self.head = nn.Sequential(conv(32, 32, 3), nn.ReLU(), conv(32, 6))

    def forward(self, images: Tensor) -> list[Tensor]:
        x, maps = self.stem(images), OrderedDict()
        for i, layer in enumerate(self.layers):
            x = maps[str(i)] = layer(x)
        return [self.head(y) for y in self.fpn(maps).values()]


def _detector(kind: Any, head: Any, backbone: nn.Module, extra: Any) -> nn.Module:
    neck = FPN(
        in_channels=list(backbone.out_channels), out_channels=64, num_outs=5, add_extra_convs=extra
    )
    bbox_head = head(num_classes=3, in_channels=64, feat_channels=64, stacked_convs=2)
    return kind(backbone=backbone, neck=neck, bbox_head=bbox_head)


def _rtmdet() -> nn.Module:
    """RTMDet whose stages join branches of 16, 32 and 64 channels."""
    return RTMDet(
        backbone=CSPNeXt(deepen_factor=0.167, widen_factor=0.25),
        neck=CSPNeXtPAFPN(in_channels=[64, 128, 256], out_channels=64, num_csp_blocks=1),
        bbox_head=RTMDetSepBNHead(num_classes=3, in_channels=64, feat_channels=64),
    )


def _faster_rcnn() -> nn.Module:
    few = PostProcess(nms_pre=20, iou_threshold=0.7, max_per_img=10)
    anchors = AnchorGenerator(strides=(8, 16, 32), scales=(4,))
    head = Shared2FCBBoxHead(num_classes=3, in_channels=32, fc_out_channels=64)
    backbone = ResNet(depth=18, out_indices=(1, 2, 3))
    return FasterRCNN(
        backbone=backbone,
        neck=FPN(in_channels=list(backbone.out_channels), out_channels=32, num_outs=3),
        rpn_head=RPNHead(
            in_channels=32,
            feat_channels=32,
            anchor_generator=anchors,
            train_proposals=few,
            test_proposals=few,
        ),
        roi_head=StandardRoIHead(bbox_head=head, strides=(8, 16, 32)),
    )


def _supernet(space: Any) -> nn.Module:
    return space.export(space.random(np.random.default_rng(3)))


TORCHVISION = ["resnet18", "resnet50", "shufflenet_v2_x1_0", "mobilenet_v2"]
OWN: dict[str, Callable[[], nn.Module]] = {
    "fcos_resnet18": lambda: _detector(
        FCOS, FCOSHead, ResNet(depth=18, out_indices=(1, 2, 3)), "on_output"
    ),
    "fcos_shufflenet": lambda: _detector(FCOS, FCOSHead, ShuffleNetV2(), "on_output"),
    "retinanet_resnet18": lambda: _detector(
        RetinaNet, RetinaHead, ResNet(depth=18, out_indices=(1, 2, 3)), "on_input"
    ),
    "retinanet_pooled": lambda: _detector(
        RetinaNet, RetinaHead, ResNet(depth=18, out_indices=(1, 2, 3)), False
    ),
    "classifier": lambda: ImageClassifier(
        backbone=ResNet(depth=18, out_indices=(3,)),
        neck=GlobalAveragePooling(),
        head=LinearHead(num_classes=10, in_channels=512),
    ),
    "spos_shufflenet": lambda: _supernet(shuffle_space()),
    "spos_mobilenet": lambda: _supernet(mobile_space()),
    "plain_fpn": PlainFPN,
}
JOINED: dict[str, Callable[[], nn.Module]] = {"rtmdet": _rtmdet, "faster_rcnn": _faster_rcnn}


def network(name: str) -> nn.Module:
    """Return a whole network in evaluation mode whose norms do something."""
    build = {**OWN, **JOINED}.get(name) or (
        lambda: getattr(torchvision.models, name)(num_classes=10)
    )
    return stirred(build().eval())


def stirred(model: nn.Module) -> nn.Module:
    """Give norms random statistics, scales and shifts, so that a mix-up shows."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model
