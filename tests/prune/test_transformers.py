"""Layer norms, layer scales, position embeddings and attention shrink exactly."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.swin_transformer import (
    PatchMergingV2,
    SwinTransformer,
    SwinTransformerBlockV2,
)
from torchvision.models.vision_transformer import VisionTransformer

from razorlite.cost import count
from razorlite.prune import Budget, Channels, Pruner
from razorlite.space.subnet import Subnet
from razorlite.trace import channel_graph
from razorlite.trace.transformers import follow_plainly
from tests.prune.oracle import third, zeroed

SHAPE = (32, 32)


def convnext():
    torch.manual_seed(0)
    blocks = [CNBlockConfig(8, 12, 1), CNBlockConfig(12, None, 2)]
    model = ConvNeXt(blocks, stochastic_depth_prob=0.0, layer_scale=0.5, num_classes=5)
    return varied(model)


def vit():
    torch.manual_seed(0)
    model = VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64
    )
    nn.init.normal_(model.heads.head.weight)  # zeros else
    return varied(model)


def swin(v2=False):
    torch.manual_seed(0)
    kinds = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2} if v2 else {}
    sizes = {"patch_size": [4, 4], "embed_dim": 16, "window_size": [2, 2], "num_classes": 5}
    model = SwinTransformer(
        depths=[2, 1], num_heads=[4, 4], stochastic_depth_prob=0.0, **sizes, **kinds
    )
    return varied(model)


def varied(model):
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return model.double().eval()  # so that rounding plays no part


MODELS = {"convnext": convnext, "vit": vit}


@pytest.mark.parametrize("name", MODELS)
def test_slim_equals_a_model_zeroed_by_hand(name):
    channels = Channels(MODELS[name](), SHAPE)
    for seed in range(2):
        subnet = third(channels, seed)
        slim = channels.slim(subnet)
        images = torch.randn(2, 3, *SHAPE, generator=torch.manual_seed(1)).double()
        with torch.no_grad():
            expected, given = zeroed(channels, subnet)(images), slim(images)
            torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5)
            with channels.masks(subnet):
                torch.testing.assert_close(channels.model(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_costs_are_exact_and_groups_the_same_both_ways(name):
    channels = Channels(MODELS[name](), SHAPE)
    plan = Pruner(budget=Budget(macs="60%"), round_to=1).plan(channels)
    cost = count(channels.slim(plan), SHAPE)
    assert plan.cost == {"macs": cost.macs, "params": cost.params}


def test_whole_stream_of_convnext_follows():
    channels = Channels(convnext(), SHAPE)
    assert [g.name for g in channels.graph.groups if g.fixed] == ["classifier.2"]
    stream = channels.graph.groups[0]
    keys = [member.key for member in stream.members]
    assert "features.1.0.layer_scale" in keys
    assert {"features.0.1", "features.1.0.block.2", "features.2.0"} <= set(keys)
    slim = channels.slim(third(channels))
    assert slim.features[1][0].layer_scale.shape[0] == slim.features[0][0].out_channels < 8
    assert slim.features[1][0].block[2].normalized_shape == (slim.features[0][0].out_channels,)


@pytest.mark.slow
@pytest.mark.parametrize("v2", [False, True])
def test_heads_of_swin_go_with_their_share_of_the_stream(v2):
    """Whole heads go, so that the others are scaled as before, with their biases and masks."""
    graphs = [channel_graph(swin(v2), (24, 20), how=way) for way in ("graph", "run")]
    one, other = ([(g.name, g.size, g.members) for g in x.groups] for x in graphs)
    assert one == other
    channels = Channels(swin(v2), (24, 20))
    sizes = {group.name: group.size for group in channels.graph.prunable}
    assert sizes["features.0.0"] == sizes["features.2.reduction"] == 4
    subnet = third(channels)
    subnet = Subnet(channels={**subnet.channels, "features.0.0": (0, 2, 3)})
    slim, masked = channels.slim(subnet), channels.masked(subnet)
    attention = slim.features[1][1].attn
    assert (attention.num_heads, attention.qkv.in_features, attention.qkv.out_features) == (
        3,
        12,
        36,
    )
    images = torch.randn(2, 3, 24, 20, generator=torch.manual_seed(1)).double()
    with torch.no_grad():
        torch.testing.assert_close(slim(images), masked(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("v2", [False, True])
def test_steps_of_swin_compute_what_it_does(v2):
    model = swin(v2)
    images = torch.randn(2, 3, 24, 20, generator=torch.manual_seed(1)).double()
    with torch.no_grad():
        assert torch.equal(follow_plainly(copy.deepcopy(model))(images), model(images))


def test_heads_go_with_their_share_of_the_stream():
    channels = Channels(vit(), SHAPE)
    sizes = {group.name: group.size for group in channels.graph.prunable}
    assert sizes == {"conv_proj": 4, **{n: 64 for n in sizes if n.endswith("mlp.0")}}
    assert [g.name for g in channels.graph.groups if g.fixed] == ["heads.head"]
    slim = channels.slim(Subnet(channels={"conv_proj": (0, 2, 3)}))
    attention = slim.encoder.layers[1].self_attention
    assert (attention.embed_dim, attention.num_heads, attention.head_dim) == (24, 3, 8)
    assert attention.in_proj_weight.shape == (72, 24)
    assert slim.hidden_dim == 24


def test_vision_transformer_is_followed_the_same_way_by_a_run():
    graphs = [channel_graph(vit(), SHAPE, how=way) for way in ("graph", "run")]
    one, other = ([(g.name, g.size, g.members) for g in x.groups] for x in graphs)
    assert one == other
    assert graphs[0].layers == graphs[1].layers
