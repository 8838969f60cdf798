"""Budgets of milliseconds: met by timing slim models, remembered, refused where out of reach."""

import pytest
import torch
from torch import nn

from razorlite.core.errors import BudgetError, ConfigError
from razorlite.core.journal import Journal
from razorlite.cost import LatencyConfig, count
from razorlite.deploy import RuntimeTimer
from razorlite.prune import Budget, Channels, Pruner, Stopwatch
from tests.prune.counted import Counted

SHAPE = (8, 8)


def chain():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(32, 4, 1)).eval()


def planned(budget, timer, journal=None, **settings):
    model = chain()
    stopwatch = Stopwatch(model, timer)
    if journal is not None:
        stopwatch.remember(journal)
        stopwatch.write_to(journal)
    pruner = Pruner(budget=Budget(**budget), round_to=1, stopwatch=stopwatch, **settings)
    channels = Channels(model, SHAPE)
    return channels, pruner.plan(channels)


@pytest.mark.parametrize("budget", ["70%", "4.5ms"])
def test_time_is_at_most_what_is_allowed_and_near_it(budget):
    channels, subnet = planned({"latency_ms": budget}, Counted(SHAPE))
    whole = 2 + count(chain(), SHAPE).macs / 1e5
    most = 0.7 * whole if budget == "70%" else 4.5
    found = 2 + count(channels.slim(subnet), SHAPE).macs / 1e5
    assert 0.95 * most <= found <= most
    assert subnet.cost["latency_ms"] == pytest.approx(found)
    assert subnet.origin["latency"]["share"] == pytest.approx(found / whole)
    assert subnet.origin["latency"]["runtime"] == "arithmetic"


def test_a_part_that_stays_is_learnt_from_the_first_slim_model():
    timer = Counted(SHAPE)
    planned({"latency_ms": "50%"}, timer)
    assert timer.calls <= 5


def test_other_limits_hold_as_well():
    _, subnet = planned({"latency_ms": "90%", "params": "30%"}, Counted(SHAPE))
    assert subnet.cost["params"] <= 0.3 * sum(p.numel() for p in chain().parameters())


def test_what_no_slim_model_can_do_is_refused():
    with pytest.raises(BudgetError, match=r"latency_ms <= 1 cannot be met.*lower min_keep"):
        planned({"latency_ms": "1ms"}, Counted(SHAPE))
    with pytest.raises(BudgetError, match=r"params .* cannot be met"):
        planned({"latency_ms": "50%", "params": "1%"}, Counted(SHAPE))
    with pytest.raises(BudgetError, match="the nearest below its upper end"):
        planned({"latency_ms": ["49.999%", "50%"]}, Counted(SHAPE))


def test_nothing_is_timed_twice_and_a_resumed_search_finds_the_same(tmp_path):
    timer, again, journal = Counted(SHAPE), Counted(SHAPE), Journal(tmp_path / "latency.jsonl")
    _, first = planned({"latency_ms": "60%"}, timer, journal)
    assert timer.calls == len(journal.read()) > 1
    _, second = planned({"latency_ms": "60%"}, again, journal)
    assert (first, again.calls) == (second, 0)
    assert timer.calls == len(journal.read())


def test_half_a_journal_is_completed(tmp_path):
    whole, part = Journal(tmp_path / "whole.jsonl"), Journal(tmp_path / "part.jsonl")
    _, first = planned({"latency_ms": "60%"}, Counted(SHAPE), whole)
    part.append(whole.read()[0])
    _, second = planned({"latency_ms": "60%"}, Counted(SHAPE), part)
    assert first == second
    assert [r["candidate"] for r in part] == [r["candidate"] for r in whole]


def test_a_limit_on_latency_wants_a_stopwatch():
    with pytest.raises(ConfigError, match="is met by measuring: give stopwatch"):
        Pruner(budget=Budget(latency_ms="50%"))


@pytest.mark.parametrize("runtime", ["pytorch", "torchscript"])
def test_models_are_timed_in_turns_and_stay_as_they_are(runtime):
    model = chain().train()
    before = [p.clone() for p in model.parameters()]
    settings = LatencyConfig(runtime=runtime, batch=2, rounds=3)
    timer = RuntimeTimer(SHAPE, settings)
    times = timer.in_turns({"a": timer.opened(model), "b": timer.opened(chain())})
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}
    assert min(times["a"] + times["b"]) > 0
    small = timer.opened(model).resized((4, 6))
    assert [tuple(x.shape) for x in small.inputs] == [(2, 3, 4, 6)]
    assert small() > 0
    assert model.training
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_a_model_of_several_inputs_is_timed_in_pytorch_alone():
    timer = RuntimeTimer(([torch.zeros(3, 8, 8)],), LatencyConfig(runtime="torchscript"))
    with pytest.raises(ConfigError, match="wants a model of one tensor of images"):
        timer.opened(nn.Identity())


@pytest.mark.slow
def test_half_the_time_in_onnxruntime_when_measured_again():
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    wide = [nn.Conv2d(3, 128, 3, padding=1), *[nn.Conv2d(128, 128, 3, padding=1) for _ in range(4)]]
    model = nn.Sequential(*wide, nn.Conv2d(128, 4, 1)).eval()
    timer = RuntimeTimer((64, 64), LatencyConfig(runtime="onnxruntime"))
    channels = Channels(model, (64, 64))
    pruner = Pruner(budget=Budget(latency_ms="50%"), stopwatch=Stopwatch(model, timer))
    slim = channels.slim(pruner.plan(channels))
    again = Stopwatch(model, timer).beside(slim).share
    assert 0.4 <= again <= 0.6
