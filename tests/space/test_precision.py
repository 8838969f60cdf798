"""Rounding to few bits, its gradients, and bit-operations."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn, tensor
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.cost import BitOperations, Constraint
from razorlite.models.backbones.resnet import ResNet
from razorlite.models.rounded import RoundedConv2d, first_step, round_to, round_weight
from razorlite.search.spaces import MixedPrecision
from razorlite.space import Subnet


def test_inputs_of_two_bits():
    # levels 0 to 3 of 0.5: 0.2 -> 0, 0.3 -> 0.5, 1.1 -> 1.0, 9 -> 1.5, -1 -> 0
    x = tensor([0.2, 0.3, 1.1, 9.0, -1.0])
    assert_close(round_to(x, tensor(0.5), 0, 3), tensor([0.0, 0.5, 1.0, 1.5, 0.0]))


def test_weights_of_one_bit_are_plus_and_minus_the_step():
    weight = tensor([0.2, -0.01, 0.0, -3.0])
    assert_close(round_weight(weight, tensor(0.4), 1), tensor([0.4, -0.4, 0.4, -0.4]))
    assert_close(first_step(weight, -1, 0), weight.abs().mean())


def test_weights_of_two_bits_have_four_levels():
    weight = tensor([-9.0, -1.1, 0.4, 9.0])
    assert_close(round_weight(weight, tensor(1.0), 2), tensor([-2.0, -1.0, 0.0, 1.0]))


def test_gradients_are_those_of_learned_step_size_quantization():
    x = tensor([0.3, 1.1, 9.0, -1.0], requires_grad=True)
    step = tensor(0.5, requires_grad=True)
    round_to(x, step, 0, 3).sum().backward()
    assert_close(x.grad, tensor([1.0, 1.0, 0.0, 0.0]))
    # round(v) - v inside: 1 - 0.6 and 2 - 2.2; the levels 3 and 0 outside; scaled by 1/sqrt(4 * 3)
    assert_close(step.grad, tensor((0.4 - 0.2 + 3 + 0) / math.sqrt(12)))


def test_exact_bits_change_nothing():
    conv, x = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 5, 5)
    zero = torch.zeros(())
    assert torch.equal(RoundedConv2d.of(conv, (32, 32), (zero, zero), False)(x), conv(x))


def net_space():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))
    return MixedPrecision(blocks=["2"], weight_bits=[1, 4], input_bits=[2, 8]).prepare(net)


def test_fingerprints_tell_signed_inputs_apart():
    def fingerprint(signed):
        net = nn.Sequential(nn.Conv2d(3, 4, 1))
        return MixedPrecision(blocks=["0"], signed=signed).prepare(net).fingerprint

    assert fingerprint([]) != fingerprint(["0"])


def test_steps_are_set_by_what_comes_first_and_learn():
    space = net_space()
    space.select(Subnet(choices={"2.weight_bits": 4, "2.input_bits": 2}))
    layer = space.model[2]
    seen = []
    layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    space.model(torch.randn(2, 3, 6, 6)).square().sum().backward()
    assert_close(layer.input_steps[0], first_step(seen[0], 0, 3), check_device=False)
    assert_close(layer.weight_steps[1], first_step(layer.weight, -8, 7))
    assert layer.input_steps[1] == 0 == layer.weight_steps[0]  # not run yet
    assert layer.weight_steps[1].grad != 0 != layer.input_steps[0].grad
    before = layer.input_steps[0].clone()
    space.model(9 * torch.randn(2, 3, 6, 6))
    assert torch.equal(layer.input_steps[0], before)


def test_bit_operations_by_hand():
    # 6 x 6 pixels: 3 -> 4 of 1 x 1 exact, 4 -> 2 of 3 x 3 in few bits
    space = net_space()
    costs = BitOperations(space, shape=(6, 6), others=0)
    point = space.encode(Subnet(choices={"2.weight_bits": 4, "2.input_bits": 2}))
    assert costs.many(point[None])["bitops"].tolist() == [36 * 4 * 2 * 9 * 4 * 2]
    exact = BitOperations(space, shape=(6, 6))
    macs = 36 * 3 * 4, 36 * 4 * 2 * 9
    assert exact.bounds()["bitops"] == (macs[0] * 1024 + macs[1] * 2, macs[0] * 1024 + macs[1] * 32)
    limit = Constraint.parse({"bitops": "50%"}, costs)
    assert limit.allows(costs.many(space.all_indices())).tolist() == [True, True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 34])
def test_resnets_of_spos(test_data, depth):
    path = test_data.parent / "figures" / "spos_paper.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    counted = json.loads(path.read_text())["counted_bit_operations"][f"resnet{depth}"]
    bits = {"weight_bits": [1, 2, 3, 4], "input_bits": [2, 3, 4]}
    space = MixedPrecision(blocks=["layer?.?"], **bits).prepare(
        ResNet(depth=depth, out_indices=(3,))
    )
    costs = BitOperations(space, shape=(224, 224), others=0)
    for name, expected in counted["bit_operations_body_and_shortcut"].items():
        weight, inputs = int(name[0]), int(name[2])
        values = {d.name: weight if "weight" in d.name else inputs for d in space.dimensions}
        found = costs.many(space.encode(Subnet(choices=values))[None])["bitops"]
        assert np.array_equal(found, [expected]), name


def test_a_pattern_without_convolutions_is_refused():
    with pytest.raises(ConfigError, match="no module with convolutions matches 'layer9'"):
        MixedPrecision(blocks=["layer9"]).prepare(nn.Sequential(nn.Conv2d(3, 3, 1)))
