import re
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import fx
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.models.necks.channel_mapper import ChannelMapper
from razorlite.models.necks.fpn import FPN
from razorlite.models.necks.pafpn import PAFPN

CHANNELS = [4, 6, 8]


def _maps(sizes=((13, 18), (7, 9), (4, 5))):
    return tuple(torch.randn(2, c, *size) for c, size in zip(CHANNELS, sizes, strict=True))


def test_top_down_by_hand():
    neck, maps = FPN(in_channels=CHANNELS, out_channels=5, num_outs=3), _maps()
    side = [conv.conv(x) for conv, x in zip(neck.lateral_convs, maps, strict=True)]
    middle = side[1] + F.interpolate(side[2], size=(7, 9), mode="nearest")
    fine = side[0] + F.interpolate(middle, size=(13, 18), mode="nearest")
    want = [conv.conv(x) for conv, x in zip(neck.fpn_convs, (fine, middle, side[2]), strict=True)]
    for got, expected in zip(neck(maps), want, strict=True):
        assert_close(got, expected)


@pytest.mark.parametrize("mode", [False, "on_input", "on_lateral", "on_output"])
def test_extra_levels(mode):
    neck = FPN(
        in_channels=CHANNELS,
        out_channels=5,
        num_outs=5,
        add_extra_convs=mode,
        relu_before_extra_convs=True,
    )
    maps = _maps()
    outs = neck(maps)
    if mode:
        sources = {
            "on_input": maps[-1],
            "on_lateral": neck.lateral_convs[2](maps[-1]),
            "on_output": outs[2],
        }
        assert_close(outs[3], neck.fpn_convs[3](sources[mode]))
        assert_close(outs[4], neck.fpn_convs[4](outs[3].relu()))
    else:
        assert_close(outs[3], outs[2][:, :, ::2, ::2])
    assert [tuple(x.shape[2:]) for x in outs[3:]] == [(2, 3), (1, 2)]


def test_start_level_leaves_the_first_maps_out():
    neck = FPN(in_channels=CHANNELS, out_channels=5, num_outs=2, start_level=1)
    assert [x.shape[2] for x in neck(_maps())] == [7, 4]
    assert neck.lateral_convs[0].conv.in_channels == 6


def test_norm_is_named_and_replaces_the_bias():
    neck = FPN(in_channels=CHANNELS, out_channels=8, num_outs=3, norm="GN", norm_on_lateral=False)
    names = set(neck.state_dict())
    assert {"fpn_convs.0.gn.weight", "lateral_convs.0.conv.bias"} <= names
    assert not {"fpn_convs.0.conv.bias", "lateral_convs.0.gn.weight"} & names


def test_too_few_outputs_are_refused():
    with pytest.raises(ConfigError, match=r"num_outs.*3 maps.*got 2"):
        FPN(in_channels=CHANNELS, out_channels=5, num_outs=2)


def test_path_aggregation_by_hand():
    neck, maps = PAFPN(in_channels=CHANNELS, out_channels=5, num_outs=4), _maps()
    inner = FPN.forward(neck, maps)
    middle = inner[1] + neck.downsample_convs[0](inner[0])
    top = inner[2] + neck.downsample_convs[1](middle)
    outs = neck(maps)
    assert_close(outs[0], inner[0])
    assert_close(outs[1], neck.pafpn_convs[0](middle))
    assert_close(outs[2], neck.pafpn_convs[1](top))
    assert_close(outs[3], outs[2][:, :, ::2, ::2])


def _necks():
    options = {"in_channels": CHANNELS, "out_channels": 8}
    return [
        FPN(num_outs=3, **options),
        FPN(num_outs=3, start_level=1, add_extra_convs="on_input", **options),
        PAFPN(num_outs=3, **options),
        ChannelMapper(num_outs=4, **options),
    ]


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize(
    ("channels", "message"), [([4, 6, 9], "4, 6, 9]"), ([4, 6], "4, 6]"), ([4, 6, 8, 8], "8, 8]")]
)
def test_maps_of_another_backbone_are_named(index, channels, message):
    maps = tuple(torch.randn(1, c, 8 >> i, 8 >> i) for i, c in enumerate(channels))
    message = re.escape(message)
    words = rf"in_channels: it was built for maps of \[4, 6, 8\] .*backbone gives .*{message}"
    with pytest.raises(ConfigError, match=words):
        _necks()[index](maps)


@pytest.mark.parametrize("index", range(4))
def test_checks_of_maps_do_not_stand_in_the_way_of_tracing(index):
    neck = _necks()[index].eval()
    backbone = torch.nn.ModuleList(
        torch.nn.Conv2d(3, c, 1, stride=2 << i) for i, c in enumerate(CHANNELS)
    )

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.neck = backbone, neck

        def forward(self, images):
            return self.neck(tuple(conv(images) for conv in self.backbone))

    images = torch.randn(1, 3, 32, 48)
    want = Model()(images)
    assert_close(fx.symbolic_trace(Model())(images), want)
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        assert_close(torch.jit.trace(Model(), images)(images), want)
