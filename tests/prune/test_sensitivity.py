"""Each channel group cut alone."""

import pytest
import torch
from torch import nn

from razorlite.core.journal import Journal
from razorlite.cost import count
from razorlite.prune import Budget, Channels, Pruner
from razorlite.prune.sensitivity import Sensitivity
from razorlite.visual.sensitivity import plot_sensitivity
from tests.trace.zoo import conv

SHAPE = (8, 8)


class Widths:
    """A trial whose losses are how many channels are missing; it counts its calls."""

    def __init__(self):
        self.calls = 0

    def loss(self, model):
        self.calls += 1
        return 24.0 - model[0].out_channels - model[1].out_channels


def measured(path, **settings):
    torch.manual_seed(0)
    model = nn.Sequential(conv(3, 8), conv(8, 16), conv(16, 4)).eval()
    channels, trial = Channels(model, SHAPE), Widths()
    pruner = Pruner(budget=Budget(macs="50%"), **{"round_to": 1, **settings})
    return channels, trial, Sensitivity(channels, pruner, trial, journal=Journal(path / "j.jsonl"))


def test_each_group_is_cut_alone(tmp_path):
    _, _, found = measured(tmp_path)
    cuts = list(found.cuts())
    assert [(c.group, c.cut, c.kept, c.rise) for c in cuts] == [
        ("0", 0.25, 6, 2.0),
        ("0", 0.5, 4, 4.0),
        ("0", 0.75, 2, 6.0),
        ("1", 0.25, 12, 4.0),
        ("1", 0.5, 8, 8.0),
        ("1", 0.75, 4, 12.0),
    ]
    # of 3 * 8 + 8 * 16 + 16 * 4 = 216 pairs of channels half of the second group's 192 go
    assert cuts[4].macs == pytest.approx(96 / 216)


def test_channels_with_the_least_scores_go_and_others_stay(tmp_path):
    channels, _, found = measured(tmp_path, ignore=["1"])
    assert {cut.group for cut in found.cuts()} == {"0"}
    kept = found._kept([x for x in found._ladders if x.group == "0"], 0.5)[:8]
    scores = channels.model[0].weight.abs().sum((1, 2, 3))
    assert set(kept.nonzero()[0]) == set(scores.argsort(descending=True)[:4].tolist())


def test_rounding_leaves_out_what_it_does_not_tell_apart(tmp_path):
    _, _, found = measured(tmp_path, round_to=8)
    assert [(c.group, c.cut, c.kept) for c in found.cuts()] == [("1", 0.25, 8)]


def test_what_was_measured_is_not_measured_again(tmp_path):
    _, trial, found = measured(tmp_path)
    cuts = found.cuts()
    first = [next(cuts) for _ in range(3)]
    assert trial.calls == 4
    _, again, resumed = measured(tmp_path)
    rest = list(resumed.cuts())
    assert rest[:3] == first
    assert again.calls == 7 - 4
    _, third, whole = measured(tmp_path)
    assert list(whole.cuts()) == rest
    assert third.calls == 0


def test_a_cut_costs_what_the_slim_model_does(tmp_path):
    channels, _, found = measured(tmp_path)
    slim = nn.Sequential(conv(3, 8), conv(8, 4), conv(4, 4))
    cut = list(found.cuts())[-1]
    assert 1 - count(slim, SHAPE).params / channels.cost.whole["params"] == pytest.approx(
        cut.params
    )


def test_picture(tmp_path):
    rows = [
        {"group": f"layer{i}.conv", "cut": cut, "macs": 0.1 * i, "rise": cut * i - 0.5}
        for i in range(3)
        for cut in (0.25, 0.5)
    ]
    assert plot_sensitivity(rows, tmp_path / "a.png").stat().st_size > 5000
    assert plot_sensitivity([], tmp_path / "b.png").exists()
