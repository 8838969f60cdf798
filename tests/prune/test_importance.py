"""Importance by hand."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.prune import (
    BNScaleImportance,
    FPGMImportance,
    L1Importance,
    L2Importance,
    RandomImportance,
)
from razorlite.trace import channel_groups
from tests.trace.zoo import Net, conv


def scores(model, importance, shape=(8, 8)):
    groups = [g for g in channel_groups(model, shape) if not g.fixed]
    return importance(model, groups)


def filled(layer, values):
    with torch.no_grad():
        for i, value in enumerate(values):
            layer.weight[i] = torch.tensor(value)
    return layer


def two_makers():
    return Net(
        lambda m, x: m.c(m.n(m.a(x)) + m.b(x)),
        a=filled(conv(3, 2), [1.0, -2.0]),
        n=filled(nn.BatchNorm2d(2), [-0.5, 0.25]),
        b=filled(conv(3, 2), [3.0, 0.5]),
        c=filled(conv(2, 1), [[[[4.0]], [[-1.0]]]]),
    )


def test_l1_sums_over_all_makers_of_a_channel():
    # 3 weights each: 3 * (1 + 3), 3 * (2 + 0.5)
    assert_close(scores(two_makers(), L1Importance(scale="none"))["a"].tolist(), [12.0, 7.5])


def test_l1_of_readers_and_of_both():
    assert_close(
        scores(two_makers(), L1Importance(scale="none", sides="in"))["a"].tolist(), [4.0, 1.0]
    )
    both = scores(two_makers(), L1Importance(scale="none", sides="both"))["a"]
    assert_close(both.tolist(), [16.0, 8.5])


def test_l2_is_the_norm_of_all_weights():
    # sqrt(3 * (1 + 9)), sqrt(3 * (4 + 0.25))
    values = scores(two_makers(), L2Importance(scale="none"))["a"].tolist()
    assert_close(values, [30**0.5, 12.75**0.5])


def test_scales():
    assert_close(scores(two_makers(), L1Importance())["a"].tolist(), [12 / 9.75, 7.5 / 9.75])
    assert_close(scores(two_makers(), L1Importance(scale="max"))["a"].tolist(), [1.0, 0.625])
    with pytest.raises(ConfigError, match="mean, max, lamp or none"):
        L1Importance(scale="men")


def test_a_layer_adaptive_scale():
    model = nn.Sequential(filled(conv(1, 4), [2.0, 4.0, 1.0, 1.0]), conv(4, 1))
    # in falling order 4, 2, 1, 1: 4 / 4, 2 / 6, 1 / 7, 1 / 8
    found = scores(model, L1Importance(scale="lamp"), (torch.zeros(1, 1, 4, 4),))
    assert_close(found["0"].tolist(), [1 / 3, 1.0, 1 / 7, 1 / 8])
    with torch.no_grad():
        model[0].weight.zero_()
    again = scores(model, L1Importance(scale="lamp"), (torch.zeros(1, 1, 4, 4),))
    assert again["0"].tolist() == [0.0] * 4


def test_norm_scales():
    assert_close(scores(two_makers(), BNScaleImportance(scale="none"))["a"].tolist(), [0.5, 0.25])


def test_norm_scales_fall_back_on_weights():
    model = nn.Sequential(filled(conv(3, 2), [1.0, 2.0]), conv(2, 1))
    assert_close(scores(model, BNScaleImportance(scale="none"))["0"].tolist(), [3.0, 6.0])


def test_dead_layer_scores_zero_not_nan():
    model = nn.Sequential(filled(conv(3, 2), [0.0, 0.0]), conv(2, 1))
    assert scores(model, L1Importance())["0"].tolist() == [0, 0]


def test_units_of_several_channels_sum_them():
    model = nn.Sequential(filled(conv(3, 4), [1.0, 2.0, 3.0, 4.0]), nn.GroupNorm(2, 4), conv(4, 1))
    assert_close(scores(model, L1Importance(scale="none"))["0"].tolist(), [9.0, 21.0])


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_weights_that_read_and_make_each_channel(transposed, groups):
    """A slow reference: which weights change what, by the convolution itself."""
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(4, 8, 1, groups=groups, bias=False).double()
    middle = Net(lambda m, x: m.c(m.b(m.a(x))), a=conv(3, 4), b=layer, c=conv(8, 1))
    matrix = layer(torch.eye(4, dtype=torch.float64)[:, :, None, None]).flatten(1).abs()  # in, out
    members = [(g, m) for g in channel_groups(middle, (4, 4)) for m in g.members if m.module == "b"]
    for group, member in members:
        sums = matrix.sum(1) if member.side == "in" else matrix.sum(0)
        expected = torch.zeros(group.size, dtype=torch.float64)
        for i, unit in enumerate(member.index):
            expected[unit] += sums[i] if unit >= 0 else 0
        own = L1Importance(scale="none", sides=member.side)
        others = [m for m in group.members if m.module != "b" and m.side == member.side]
        found = own.unit_scores(middle, group)
        for other in others:
            alone = type(group)(group.name, group.size, (other,))
            found = found - own.unit_scores(middle, alone)
        assert_close(found, expected)


def test_random_is_seeded():
    model = two_makers()
    first, again = (scores(model, RandomImportance(seed=1))["a"] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, scores(model, RandomImportance(seed=2))["a"])


def test_fpgm_is_the_distance_to_all_others():
    model = nn.Sequential(conv(2, 3), conv(3, 1))
    with torch.no_grad():
        model[0].weight[..., 0, 0] = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 0.0]])
    # to one another: 5, 3 and 4
    found = FPGMImportance(scale="none")(model, channel_groups(model, (torch.zeros(1, 2, 2, 2),)))
    assert_close(found["0"].tolist(), [8.0, 9.0, 7.0])


def test_norms_and_depthwise_count_where_asked():
    model = nn.Sequential(
        filled(conv(3, 2), [1.0, 2.0]),
        filled(nn.BatchNorm2d(2), [10.0, 20.0]),
        filled(conv(2, 2, groups=2), [100.0, 200.0]),
        conv(2, 1),
    )
    assert scores(model, L1Importance(scale="none"))["0"].tolist() == [103.0, 206.0]
    plain = L1Importance(scale="none", depthwise=False)
    assert scores(model, plain)["0"].tolist() == [3.0, 6.0]
    with_norm = L1Importance(scale="none", depthwise=False, norms=True)
    assert scores(model, with_norm)["0"].tolist() == [13.0, 26.0]
