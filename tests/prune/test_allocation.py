"""How groups share a budget, and what scores are divided by: by hand."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.cost import count
from razorlite.prune import Budget, Channels, Pruner
from razorlite.prune.allocation import ladder
from razorlite.prune.per_cost import per_cost
from razorlite.space import Subnet
from razorlite.trace import Block
from tests.trace.zoo import conv


def rungs_of(scores):
    block = Block(tuple(range(len(scores))), (1,), False)
    return ladder("a", block, start=0, scores=np.array(scores), round_to=1, least=1)


def test_shares_that_the_best_units_hold():
    assert_close(rungs_of([1.0, 6.0, 3.0]).held, np.array([0.0, 0.6, 0.9, 1.0]))
    assert_close(rungs_of([0.0, 0.0]).held, np.array([0.0, 0.5, 1.0]))
    assert_close(rungs_of([np.inf, 2.0]).held, np.array([0.0, 0.5, 1.0]))


def test_local_keeps_the_same_share_of_importance():
    layers = (conv(3, 4, bias=False), conv(4, 4, bias=False), conv(4, 1, bias=False))
    model = nn.Sequential(*layers)
    channels = Channels(model, (4, 4))
    scores = {"0": torch.tensor([7.0, 1.0, 1.0, 1.0]), "1": torch.tensor([1.0, 1.1, 1.2, 1.3])}
    # 0.7 of the first are 1 channel, of the second 3: 3 + 3 + 3 of 32 weights
    limits = Budget(params=9).limits(channels.cost.whole)
    kept = channels.plan(scores, limits, allocation="local").channels
    assert kept == {"0": (0,), "1": (1, 2, 3)}


def chain():
    return nn.Sequential(
        conv(3, 4, 3, bias=False), nn.BatchNorm2d(4), conv(4, 6, 3, stride=2, bias=False),
        conv(6, 2, bias=False),
    )  # fmt: skip


def without_one(model, number, shape):
    """Return what the model saves with one channel less behind a layer."""
    channels = Channels(model, shape)
    whole, name = channels.cost.whole, str(number)
    size = next(g.size for g in channels.graph.prunable if g.name == name)
    kept = {name: tuple(range(size - 1))}
    slim = count(channels.slim(Subnet(channels=kept)), shape)
    return {"macs": whole["macs"] - slim.macs, "params": whole["params"] - slim.params}


def test_what_a_unit_costs_is_what_the_model_saves_without_it():
    model = chain()
    channels = Channels(model, (8, 8))
    for kind in ("macs", "params"):
        costs = channels.cost.per_unit(kind, channels.cost.sizes)
        expected = [without_one(model, number, (8, 8))[kind] for number in (0, 2)]
        assert costs.tolist() == expected
    # 8 x 8 places behind the first, 4 x 4 behind the second
    assert channels.cost.per_unit("memory", channels.cost.sizes).tolist() == [64.0, 16.0]


def test_scores_are_divided_by_what_is_left():
    channels = Channels(chain(), (8, 8))
    scores = {"0": torch.ones(4), "2": torch.ones(6)}
    # parameters: 27 + 2 of a norm + 9 for each of the second's channels; 36 + 2
    whole = per_cost(scores, channels, "params")
    assert_close(whole["0"].tolist(), [1 / (29 + 54)] * 4)
    fewer = per_cost(scores, channels, "params", np.array([4, 3]))
    assert_close(fewer["0"].tolist(), [1 / (29 + 27)] * 4)
    assert_close(fewer["2"].tolist(), [1 / 38] * 6)


def test_wrong_words_are_refused():
    with pytest.raises(ConfigError, match="global, local or uniform, got 'all'"):
        Pruner(budget=Budget(macs="50%"), allocation="all")
    with pytest.raises(ConfigError, match="none, macs, params, memory, latency, got 'time'"):
        Pruner(budget=Budget(macs="50%"), per="time")
