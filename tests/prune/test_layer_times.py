"""What layers take channel by channel, and the multiples of channels that suit them."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from razorlite.core.errors import ConfigError
from razorlite.core.journal import Journal
from razorlite.prune import Budget, Channels, Pruner, Stopwatch
from razorlite.prune.layer_times import layer_times, quickest
from razorlite.prune.per_cost import per_cost
from razorlite.prune.rounding import Rounding, measured_rounding

SHAPE = (8, 8)


class Arithmetic:
    """Takes for each cell and output channel 3 ns, and 2 ns more for each input channel.

    Widths count as if padded to a multiple.
    """

    def __init__(self, padded=1):
        self.padded, self.timed = padded, []
        self.conditions = {"runtime": "arithmetic", "threads": 1, "batch": 1}

    def opened(self, model):
        return lambda: 1.0

    def opened_layer(self, layer, inputs):
        self.timed.append(layer)
        grouped = getattr(layer, "groups", 1)
        cells = inputs.numel() / inputs.shape[1] / math.prod(getattr(layer, "stride", (1,)))
        width = math.ceil(layer.weight.shape[0] / self.padded) * self.padded
        return lambda: 1e-6 * cells * width * (3 + 2 * inputs.shape[1] / grouped)

    def in_turns(self, runs, rounds=None):
        return {name: [2 * run(), run()] for name, run in runs.items()}  # the quicker one counts


class Shared(nn.Module):
    """A stem of three channels, a layer that is called at two sizes, and one with groups."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, padding=1)
        self.shared = nn.Conv2d(64, 64, 3, padding=1)
        self.apart = nn.Conv2d(64, 64, 3, padding=1, groups=64)
        self.end = nn.Conv2d(64, 4, 1, stride=2)

    def forward(self, images):
        maps = self.shared(self.stem(images).relu()).relu()
        return self.end(self.apart(self.shared(nn.functional.avg_pool2d(maps, 2))).relu())


def whole():
    torch.manual_seed(0)
    return Shared().eval()


def clock(model, example, timer=None):
    return layer_times(model, example, lambda timed: quickest(timed, timer or Arithmetic()))


def test_times_of_pairs_and_outputs_by_hand():
    model, timer = whole(), Arithmetic()
    times = clock(model, SHAPE, timer)
    # picoseconds; 64 cells and, in the second call of the shared layer, 16
    assert times["shared"] == (80 * 2000, 80 * 3000)
    # of three inputs none can go: all goes with the outputs, 9 ns each of them
    assert times["stem"] == (64 * 3000, 0)
    assert times["apart"] == (0, 16 * 5000)
    assert times["end"] == (4 * 2000, 4 * 3000)
    assert len(timer.timed) == 2 + 2 * 2 + 1 + 2  # whole and half, but for the one with groups


def test_slim_models_take_what_their_channels_take():
    model = whole()
    channels = Channels(model, SHAPE)
    times, cost = clock(model, SHAPE), channels.timed(clock).cost
    kept = np.ones(channels.graph.size, dtype=bool)
    assert cost.of(kept)["layer_time"] == cost.whole["layer_time"]
    assert cost.whole["macs"] == channels.cost.whole["macs"]
    assert "layer_time" not in channels.cost.whole
    assert cost.among([[n] for n in cost.sizes]).bounds()["layer_time"][1] == sum(
        outputs * (inputs * times[name][0] + times[name][1])
        for name, inputs, outputs in [
            ("stem", 3, 64), ("shared", 64, 64), ("apart", 1, 64), ("end", 64, 4)
        ]
    )  # fmt: skip


def test_scores_by_what_a_channel_takes():
    model = whole()
    plain = Channels(model, SHAPE)
    channels = plain.timed(clock)
    scores = {g.name: torch.ones(g.size) for g in plain.graph.prunable}
    divided = per_cost(scores, channels, "latency")
    costs = channels.cost.per_unit("layer_time", channels.cost.sizes)
    for group, cost in zip(plain.graph.prunable, costs, strict=True):
        assert torch.allclose(divided[group.name], torch.tensor(1 / cost, dtype=torch.float64))


@pytest.mark.parametrize("padded", [4, 16])
def test_the_finest_multiple_that_costs_no_more_is_taken(padded):
    model = nn.Sequential(nn.Conv2d(64, 64, 1))
    found = measured_rounding(model, (torch.zeros(1, 64, 8, 8),), Arithmetic(padded))
    assert found.channels == padded


def test_the_reason_is_told():
    per_mac = {1: 1.5, 4: 1.4, 8: 1.31, 16: 1.004, 32: 1.0}
    found = Rounding.of(per_mac, 3)
    assert found.channels == 16
    text = "multiples of 16: 1.00 of the time a MAC takes at 32, 1.31 at 8, 1.40 at 4, 1.50 at 1"
    assert str(found) == found.to_dict()["why"] == text


def test_a_rounding_is_measured_once_and_told_in_the_subnet(tmp_path):
    journal, plans = Journal(tmp_path / "latency.jsonl"), []
    for timer in (Arithmetic(16), Arithmetic(4)):
        model = whole()
        watch = Stopwatch(model, timer)
        watch.remember(journal)
        watch.write_to(journal)
        pruner = Pruner(budget=Budget(macs="60%"), round_to="auto", stopwatch=watch)
        plans.append(pruner.plan(model, SHAPE))
    assert plans[0] == plans[1]
    assert plans[0].origin["round_to"]["channels"] == 16
    assert all(len(kept) % 16 == 0 for kept in plans[0].channels.values())
    [record] = journal.read()
    assert (record["round_to"], record["runtime"]) == (16, "arithmetic")


def test_what_is_measured_wants_a_stopwatch_and_layers():
    for settings in ({"round_to": "auto"}, {"per": "latency"}):
        with pytest.raises(ConfigError, match="is met by measuring: give stopwatch"):
            Pruner(budget=Budget(macs="50%"), **settings)
    with pytest.raises(ConfigError, match="the model has none without groups; give a number"):
        measured_rounding(nn.Sequential(nn.ReLU()), SHAPE, Arithmetic())
