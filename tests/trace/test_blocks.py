"""Residual blocks, found by a run that is watched."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from razorlite.trace import residual_blocks
from tests.trace.zoo import conv


class Block(nn.Module):
    """Adds what a convolution makes of an input, in one of several ways."""

    def __init__(self, how, inputs=8, outputs=8):
        super().__init__()
        self.how, self.conv, self.norm = how, conv(inputs, outputs, 3), nn.BatchNorm2d(outputs)

    def forward(self, x):
        return self.how(self, x)


def in_place(m, x):
    out = m.conv(x)
    out += x
    return F.relu_(out)


WAYS = {
    "sum": lambda m, x: x + m.conv(x),
    "norm and activation behind": lambda m, x: F.relu(m.norm(m.conv(x) + x)),
    "in place": in_place,
    "method": lambda m, x: m.conv(x).add_(x),
    "twice": lambda m, x: (x + m.conv(x)) + m.norm(x),
}
OTHERS = {
    "no sum": lambda m, x: F.relu(m.conv(x)),
    "sum with a number": lambda m, x: x + 1 + 0 * m.conv(x).mean().item(),
    "product": lambda m, x: x * m.conv(x),
    "a shortcut that is not the input": lambda m, x: m.norm(m.conv(x)) + m.conv(x),
    "overwritten": lambda m, x: (x + m.conv(x)).mul_(0),
    "two outputs": lambda m, x: (x + m.conv(x), x),
}


def net(block):
    return nn.Sequential(conv(3, 8), block, nn.Identity())


@pytest.mark.parametrize("how", WAYS)
def test_what_gives_its_input_and_something_more_is_a_block(how):
    assert residual_blocks(net(Block(WAYS[how])), (8, 8)) == ("1",)


@pytest.mark.parametrize("how", OTHERS)
def test_all_else_is_none(how):
    assert residual_blocks(net(Block(OTHERS[how])).eval(), (8, 8)) == ()


def test_blocks_that_change_the_shape_are_none():
    half = Block(lambda m, x: F.max_pool2d(x, 2) + F.max_pool2d(m.conv(x), 2))
    assert residual_blocks(net(half), (8, 8)) == ()


def test_a_stage_is_none_but_its_blocks_and_a_block_counts_with_its_parts():
    inner = Block(WAYS["sum"])
    outer = Block(lambda m, x: x + m.conv(m.conv2(m.inner(x))))
    outer.inner, outer.conv2 = inner, conv(8, 8, 3)
    stage = nn.Sequential(Block(WAYS["in place"]), outer)
    assert residual_blocks(net(stage), (8, 8)) == ("1.0", "1.1")


def test_a_block_that_runs_twice_must_be_one_both_times():
    class Twice(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.first, self.width = conv(3, 8), width
            self.block = Block(lambda m, x: m.conv(x) + x if x.shape[-1] > 4 else m.conv(x))

        def forward(self, x):
            return self.block(self.block(self.first(x))[..., : self.width])

    assert residual_blocks(Twice(8), (8, 8)) == ("block",)
    assert residual_blocks(Twice(4), (8, 8)) == ()


def test_what_is_not_looked_into_and_what_hooks_change_is_left_alone():
    model = net(nn.Sequential(Block(WAYS["sum"]), Block(WAYS["sum"])))
    assert residual_blocks(model, (8, 8), leaves=["1"]) == ()
    model[1][0].register_forward_hook(lambda *_: None)
    assert residual_blocks(model, (8, 8)) == ("1.1",)


def test_a_model_that_wants_values():
    class Sorted(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = net(Block(WAYS["sum"]))

        def forward(self, images):
            x = self.body(images[0])
            return x[x > 0].tolist()

    assert residual_blocks(Sorted(), [torch.rand(1, 3, 8, 8)]) == ("body.1",)


COUNTS = {"resnet18": 5, "mobilenet_v3_small": 6, "shufflenet_v2_x0_5": 0}


@pytest.mark.parametrize("name", COUNTS)
def test_torchvision(name):
    with torch.device("meta"):
        model = getattr(torchvision.models, name)(weights=None)
    assert len(residual_blocks(model, (32, 32))) == COUNTS[name]
