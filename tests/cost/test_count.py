"""Exact counts, against hand numbers and published counts."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from razorlite.cost import count, measure_latency, thop_profile
from razorlite.cost.count import _count_on, count_calls, plain_attention
from razorlite.cost.norms import QuickNorms
from razorlite.models.backbones.choice_blocks import ShuffleBlock, ShuffleXception
from razorlite.models.backbones.resnet import ResNet
from razorlite.models.deformable import DeformableConv2d, DeformConfig
from tests.space.supernets import published_space


def test_convolutions_and_linear_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 8 x 10 out: 80 * 8 * 27 = 17280
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False),  # 80 * 8 * 25 = 16000
        nn.ConvTranspose2d(8, 4, 2, stride=2),  # each of 80 inputs: 8 * 4 * 4 = 10240
        nn.Flatten(),
        nn.Linear(4 * 16 * 20, 10),  # 12800
    )
    cost = count(model, (16, 20))
    assert cost.macs == 17280 + 16000 + 10240 + 12800
    assert cost.params == 8 * 27 + 8 + 16 + 8 * 25 + 8 * 4 * 4 + 4 + 12800 + 10
    assert [cost.modules[str(i)].macs for i in range(6)] == [17280, 0, 16000, 10240, 0, 12800]


def test_functional_calls_and_attention_count():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 4, stride=4)  # 16 cells: 16 * 8 * 48 = 6144
            self.weight = nn.Parameter(torch.zeros(8, 8, 1, 1))
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, images):
            x = F.conv2d(self.stem(images), self.weight)  # 16 * 64 = 1024
            x = x.flatten(2).transpose(1, 2)
            # in-projection 16 * 8 * 24 = 3072, scores and values 2 * 16 * 16 * 8 = 4096, out 1024
            return self.attention(x, x, x, need_weights=False)[0]

    expected = 6144 + 1024 + 3072 + 4096 + 1024
    assert count(Attention(), (16, 16)).macs == expected
    # on real tensors, too, where attention would run as one fused operation
    with plain_attention():
        real = _count_on(torch.device("cpu"), Attention().eval(), torch.zeros(1, 3, 16, 16))
    assert real[""] == expected


def test_deformable_convolution_counts_as_a_convolution():
    from torchvision.ops import DeformConv2d

    class Deformed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = DeformConv2d(4, 6, 3, padding=1)
            self.offset = nn.Conv2d(3, 18, 1)
            self.stem = nn.Conv2d(3, 4, 1)

        def forward(self, images):
            return self.conv(self.stem(images), self.offset(images))

    cells = 5 * 6
    assert count(Deformed(), (5, 6)).macs == cells * (6 * 4 * 9 + 18 * 3 + 4 * 3)


@pytest.mark.parametrize(
    ("options", "convolution", "offsets"),
    [
        # 3 x 4 cells out; 6 x 8 taps of 9; 18 offsets, or 27 with what weighs them
        ({"modulated": False}, 12 * 6 * 8 * 9, 12 * 18 * 8 * 9),
        ({"modulated": True}, 12 * 6 * 8 * 9, 12 * 27 * 8 * 9),
        ({"modulated": True, "deform_groups": 2}, 12 * 6 * 8 * 9, 12 * 54 * 8 * 9),
        # groups split the convolution, never that of the offsets
        ({"modulated": False, "groups": 2}, 12 * 6 * 4 * 9, 12 * 18 * 8 * 9),
    ],
)
def test_deformable_layer_is_a_convolution_and_that_of_its_offsets(options, convolution, offsets):
    layer = DeformableConv2d(8, 6, 3, stride=2, padding=1, **options)
    x = torch.zeros(1, 8, 5, 7)
    assert count_calls(layer, x) == {"": convolution + offsets, "conv_offset": offsets}
    plain = nn.Conv2d(8, 6, 3, stride=2, padding=1, groups=options.get("groups", 1), bias=False)
    assert count_calls(plain, x)[""] == convolution


def test_deformable_stages_cost_a_resnet_their_offsets():
    shape = (64, 64)
    plain = count(ResNet(depth=50), shape)
    deformed = count(ResNet(depth=50, deform=DeformConfig(modulated=False)), shape)
    # 18 offsets by 3 x 3 kernels; 4, 6 and 3 blocks of 128, 256 and 512 channels at 8, 4, 2 cells
    offsets = 18 * 9 * (4 * 128 * 8**2 + 6 * 256 * 4**2 + 3 * 512 * 2**2)
    assert deformed.macs - plain.macs == offsets


def test_model_that_needs_values_is_counted_on_zeros():
    class Sorting(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, images):
            x = self.conv(images)
            return x[x > x.mean().item()]

    assert count(Sorting(), (4, 4)).macs == 16 * 6


def test_shared_weights_count_once_and_modes_come_back():
    conv = nn.Conv2d(3, 3, 1, bias=False)
    model = nn.Sequential(conv, nn.Dropout(), conv)
    model[1].eval()
    cost = count(model, (2, 2))
    assert (cost.macs, cost.params) == (2 * 4 * 9, 9)
    assert [m.training for m in model] == [True, False, True]
    assert conv.weight.device.type == "cpu"


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("spos_0x_paper", 3_558_952, 321_915_200),
        ("spos_1x", 3_353_592, 316_019_520),
        ("detnas_0x", 3_531_560, 320_215_488),
    ],
)
def test_published_subnets(test_data, name, params, macs):
    space = published_space()
    subnet = space.load(test_data / "published_subnets" / f"{name}.yaml")
    cost = count(space.export(subnet), (224, 224))
    assert (cost.params, cost.macs) == (params, macs)
    assert cost.to_dict()["params"] == params


def test_choice_blocks_against_detnas_op_table(test_data):
    table = json.loads(
        (test_data / "latency_tables" / "detnas_shufflenet_op_flops.json").read_text()
    )
    checked = 0
    fixed = {"conv1": 3 * 16 * 9 * 112 * 112, "rest_operation": 640 * 1024 * 49 + 1024 * 1000}
    for kind, entries in table.items():
        if kind in fixed:
            assert entries[0]["macs"] == fixed[kind]
            continue
        stride = int(kind[-1])
        for entry in entries:
            inputs, outputs, middle, height, width, _ = entry["key"]
            # DetNAS keeps the passing branch at the input's width where ours has half the output's
            same_split = stride == 1 or outputs == 2 * inputs
            if middle != outputs // 2 or not same_split:
                continue
            kwargs = {"in_channels": inputs, "out_channels": outputs, "stride": stride}
            if kind.startswith("xception"):
                block = ShuffleXception(**kwargs)
            else:
                block = ShuffleBlock(kernel_size=int(kind.split("_")[1][0]), **kwargs)
            macs = count_calls(block, torch.zeros(1, inputs, height, width))[""]
            assert macs == entry["macs"], (kind, entry["key"])
            checked += 1
    assert checked == 24  # 4 widths with stride 1, 2 with stride 2, of 4 kinds


def test_thop_agrees_on_plain_layers_and_leaves_the_model():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 5))
    profile = thop_profile(model, (8, 8))
    assert profile.macs == count(model, (8, 8)).macs
    assert profile.params == count(model, (8, 8)).params
    assert profile.reasons == ()
    assert not any("total" in name for name in model.state_dict())


class Odd(nn.Module):
    """A convolution at two places, a norm, a list that is not called, a product by hand."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2)])
        self.again = nn.Sequential(self.parts[0])

    def forward(self, x):
        x = self.parts[1](self.again(x)) + self.parts[0](x)
        x = self.parts[2](x.mean((2, 3)))
        return x @ torch.ones(2, 5, device=x.device)


def test_thops_difference_is_explained_to_the_last_operation():
    # 5 x 5 pixels: convolution 2 * 25 * 12, linear 8, product 10
    exact, profile = count(Odd(), (5, 5)), thop_profile(Odd(), (5, 5))
    assert exact.macs == 618
    changes = {r.split(" for ")[1][:6]: int(r.split()[0].replace(",", "")) for r in profile.reasons}
    assert changes.keys() == {"layers", "norms ", "functi"}
    assert changes["norms "] > 0
    assert changes["functi"] == -10
    assert "parts.0" in profile.reasons[0]
    assert profile.macs == exact.macs + sum(changes.values())


def test_containers_cost_the_sum_of_their_parts():
    modules = count(Odd(), (5, 5)).modules
    assert {name: cost.macs for name, cost in modules.items()} == {
        "parts": 608,  # its convolution at both places
        "parts.0": 600,
        "parts.1": 0,
        "parts.2": 8,
        "again": 300,
    }


def test_latency_is_measured_in_turns():
    order = []

    class Slow(nn.Module):
        def __init__(self, name, seconds):
            super().__init__()
            self.name, self.seconds = name, seconds

        def forward(self, images):
            import time

            order.append(self.name)
            time.sleep(self.seconds)

    models = {"fast": Slow("fast", 0.001), "slow": Slow("slow", 0.01)}
    costs = measure_latency(models, (8, 8), rounds=6, warmup=1)
    assert len(order) == 14
    assert all({a, b} == {"fast", "slow"} for a, b in zip(order[::2], order[1::2], strict=True))
    assert costs["fast"].median < costs["slow"].median
    assert costs["slow"].lower <= costs["slow"].median <= costs["slow"].upper
    assert costs["slow"].median >= 10
    assert costs["fast"].threads == torch.get_num_threads()
    assert_close(costs["fast"].rounds, 6)


def test_a_forward_that_keeps_what_it_computes_can_be_run_afterwards():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.scale = nn.Conv2d(3, 2, 1), torch.ones(1)

        def forward(self, x):
            self.scale = self.scale.to(self.layer.weight.device)
            return self.layer(x) * self.scale

    model = Keeps()
    assert count(model, (4, 4)).macs == 3 * 2 * 16
    assert not model.scale.is_meta
    model(torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [False, True])
def test_norms_without_values_have_the_shapes_and_layout_that_torch_gives(training, layout):
    norm = nn.BatchNorm2d(5, device="meta").train(training)
    x = torch.empty(2, 5, 3, 4, device="meta").to(memory_format=layout)
    with torch.no_grad():
        expected = norm(x)
        with QuickNorms():
            found = norm(x)
    assert (found.shape, found.stride()) == (expected.shape, expected.stride())
    assert (found.dtype, found.device) == (expected.dtype, expected.device)


def test_norms_with_values_are_computed():
    norm, x = nn.BatchNorm2d(3).eval(), torch.randn(2, 3, 4, 4)
    with torch.no_grad(), QuickNorms():
        found = norm(x)
    assert_close(found, norm(x))
