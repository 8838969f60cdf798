"""Layer norms, layer scales, position embeddings and attention shrink exactly."""

import pytest
import torch
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from razorlite.cost import count
from razorlite.prune import Budget, Channels, Pruner
from tests.prune.oracle import third, zeroed

SHAPE = (32, 32)


def convnext():
    torch.manual_seed(0)
    blocks = [CNBlockConfig(8, 12, 1), CNBlockConfig(12, None, 2)]
    model = ConvNeXt(blocks, stochastic_depth_prob=0.0, layer_scale=0.5, num_classes=5)
    return varied(model)


def varied(model):
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return model.double().eval()  # so that rounding plays no part


MODELS = {"convnext": convnext}


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
