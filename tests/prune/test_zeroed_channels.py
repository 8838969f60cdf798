"""Channels that make zeros go for free, in whole networks, and cost what was foretold."""

import copy

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.utils._pytree import tree_leaves

from razorlite import recipes
from razorlite.cost import count
from razorlite.prune import Channels
from razorlite.recipes.building import build
from razorlite.recipes.experiment import read
from razorlite.space import Subnet
from tests.prune.oracle import third
from tests.prune.test_watched import DETECTORS, SMALL, detected

pytestmark = pytest.mark.slow
# one of each kind: larger ones repeat the same layers
CONFIGS = [
    "atss/atss_r50_fpn_1x_coco",
    "cascade_rcnn/cascade_mask_rcnn_r50_fpn_1x_coco",
    "dcn/faster_rcnn_r50_fpn_dconv_c3-c5_1x_coco",
    "demo/scratch",
    "detr/detr_deit-tiny_150e_coco",
    "detr/detr_r50_150e_coco",
    "distill/fcos_bccd_student",
    "faster_rcnn/faster_rcnn_x101_32x4d_fpn_1x_coco",
    "fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco",
    "fcos/fcos_shufflenetv2_bccd",
    "gcnet/mask_rcnn_r50_fpn_r4_gcb_c3-c5_1x_coco",
    "gfl/gfl_r50_fpn_1x_coco",
    "pafpn/faster_rcnn_r50_pafpn_1x_coco",
    "prune/retinanet_r18_bccd",
    "rtmdet/rtmdet-ins_tiny_8xb32-300e_coco",
    "rtmdet/rtmdet_tiny_8xb32-300e_coco",
]
SPACES = {  # of classifiers, and the size of their images
    "ofa/mobilenetv3_ofa_imagenet": 64,
    "ofa/proxyless_ofa_imagenet": 64,
    "spos/mobilenetv2_spos_cifar10": 64,
    "spos/shufflenetv2_spos_imagenet": 64,
    "spos/shufflenetv2_widths_imagenet": 32,
}
CLASSIFIERS = {  # and the size of their images
    "alexnet": 64,
    "convnext_tiny": 64,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_s": 32,
    "googlenet": 32,
    "inception_v3": 80,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_x_400mf": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "resnext50_32x4d": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 32,
    "swin_v2_t": 32,
    "vgg11_bn": 32,
    "vit_b_32": 64,
    "wide_resnet50_2": 32,
}
TIMM = {  # the size of their images, and how they are made
    "convnext_atto": (32, {}),
    "efficientnet_b0": (32, {}),
    "efficientvit_b0": (32, {}),
    "ghostnet_050": (32, {}),
    "levit_128s": (64, {"img_size": 64}),
    "mobilenetv3_small_050": (32, {}),
    "mobilevit_xxs": (64, {}),
    "poolformer_s12": (32, {}),
    "regnety_002": (32, {}),
    "repvgg_a0": (32, {}),
    "swin_tiny_patch4_window7_224": (64, {"img_size": 64, "window_size": 2}),
    "vit_tiny_patch16_224": (32, {"img_size": 32}),
}


@torch.no_grad()
def varied(model):
    """In float64, with parameters and statistics that do something."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    for parameter in model.parameters():
        if parameter.dim() < 2 or not parameter.any():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.double().eval()


@torch.no_grad()
def with_zeros(channels, subnet):
    """A copy whose dropped channels are made of zeros; norms over channels leave them out."""
    model = copy.deepcopy(channels.model)
    for group in channels.graph.prunable:
        kept = torch.zeros(group.size + 1, dtype=torch.bool)
        kept[[*subnet.channels[group.name], -1]] = True
        for member in group.members:
            layer, stays = model.get_submodule(member.module), kept[list(member.index)]
            if member.normed:
                layer.register_forward_hook(over(stays))
            elif member.side == "out" and not member.counted:
                for name, dim in member.tensors:
                    zero(getattr(layer, name, None), name, dim, ~stays)
    return model


def zero(tensor, name, dim, dropped):
    if tensor is not None and name not in ("running_mean", "running_var"):
        tensor.movedim(dim, 0)[dropped] = 0


def over(stays):
    """A hook that computes a layer norm, or a group norm of one group, over some channels."""

    def hook(layer, inputs, out):
        grouped = isinstance(layer, nn.GroupNorm)
        planar = grouped or type(layer).__name__.startswith("LayerNorm2d")
        dim = 1 if planar else -len(layer.normalized_shape)
        x, given = inputs[0].movedim(dim, -1), torch.zeros_like(inputs[0]).movedim(dim, -1)
        some = x[..., stays]
        dims = list(range(1, x.dim())) if grouped else -1
        variance, mean = torch.var_mean(some, dims, correction=0, keepdim=True)
        normed = (some - mean) / (variance + layer.eps).sqrt()
        weight, bias = layer.weight[stays].flatten(), layer.bias[stays].flatten()
        given[..., stays] = normed * weight + bias
        return given.movedim(-1, dim)

    return hook


def check(model, shape, run, regions=False):
    """Compare a model of zeroed channels with the slim one, and both with what was foretold.

    Args:
        model: what is pruned.
        shape: of its images, which MACs are of.
        run: calls it.
        regions: whether MACs depend on what it finds, so that the zeroed model is counted anew.
    """
    channels = Channels(varied(model), shape)
    subnet = third(channels)
    zeroed, slim = with_zeros(channels, subnet), channels.cut(subnet)
    expected, given = (tree_leaves(run(x)) for x in (zeroed, slim))
    assert len(expected) == len(given) > 0
    for a, b in zip(expected, given, strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=1e-5 * float(a.abs().max()))
    kept = [np.isin(np.arange(g.size), subnet.channels[g.name]) for g in channels.graph.prunable]
    counting = Channels(zeroed, shape, graph=None if regions else channels.graph)
    foretold = counting.cost.of(np.concatenate(kept))
    counted = count(slim, shape)
    assert foretold == {"macs": counted.macs, "params": counted.params}
    assert counted.params < 0.95 * count(model, shape).params


def forward(shape):
    images = torch.randn(1, 3, *shape, generator=torch.manual_seed(1)).double()

    def run(model):
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):  # regions are float32
                module.register_forward_pre_hook(lambda _, x: (x[0].double(), *x[1:]))
        with torch.no_grad():
            return model(images)

    return run


@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configurations(name):
    check(recipes.build_model(name, {"mutator": None}), (64, 64), forward((64, 64)))


@pytest.mark.parametrize("name", SPACES)
def test_subnets_of_classifiers(name):
    shape = (SPACES[name], SPACES[name])
    space = build(read(name, {"data": None, "shape": list(shape)})[1]).space
    check(space.export(space.random(np.random.default_rng(0))), shape, forward(shape))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_of_torchvision(name):
    size = CLASSIFIERS[name]
    more = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    more = {"image_size": size} if name == "vit_b_32" else more
    model = torchvision.models.get_model(name, weights=None, num_classes=10, **more)
    check(model, (size, size), forward((size, size)))


def test_half_of_each_group_of_convnext_leaves_a_quarter():
    """Torch-Pruning's own graph leaves 0.260 of the parameters."""
    model = torchvision.models.convnext_tiny().eval()
    channels = Channels(model, (32, 32))
    halves = {g.name: tuple(range(0, g.size, 2)) for g in channels.graph.prunable}
    kept = count(channels.cut(Subnet(channels=halves)), (32, 32)).params
    assert kept / count(model, (32, 32)).params == pytest.approx(0.260, abs=5e-4)


@pytest.mark.parametrize("name", TIMM)
def test_models_of_timm(name):
    timm = pytest.importorskip("timm")
    size, more = TIMM[name]
    model = timm.create_model(name, num_classes=10, **more)
    check(model, (size, size), forward((size, size)))


def test_small_maxvit():
    torch.manual_seed(0)
    sizes = {"stem_channels": 16, "partition_size": 2, "head_dim": 8}
    blocks = {"block_channels": [16, 24, 32, 48], "block_layers": [1, 1, 1, 1]}
    model = torchvision.models.MaxVit(
        input_size=(64, 64), stochastic_depth_prob=0.0, num_classes=10, **sizes, **blocks
    )
    check(model, (64, 64), forward((64, 64)))


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_of_torchvision(name):
    build = getattr(torchvision.models.detection, name)
    images = [torch.rand(3, 64, 80, generator=torch.manual_seed(1))]
    model = build(**SMALL, **DETECTORS[name])
    check(model, (64, 64), lambda x: detected(x, images), regions="rcnn" in name)


def test_keypoints_of_torchvision():
    torch.manual_seed(0)
    build = torchvision.models.detection.keypointrcnn_resnet50_fpn
    few = {**SMALL, "num_classes": 2, "num_keypoints": 5, "box_detections_per_img": 3}
    images = [torch.rand(3, 64, 80, generator=torch.manual_seed(1))]
    model = build(**few, **DETECTORS["fasterrcnn_resnet50_fpn"])
    check(model, (64, 64), lambda x: detected(x, images), regions=True)


def test_ssdlite():
    """Its raw maps: scores of random weights are so near one another that their order is chance."""
    torch.manual_seed(0)
    build = torchvision.models.detection.ssdlite320_mobilenet_v3_large
    image = torch.rand(1, 3, 128, 128, generator=torch.manual_seed(1)).double()

    def run(model):
        with torch.no_grad():
            return model.head(list(model.backbone(image).values()))

    check(build(**SMALL), (64, 64), run)
