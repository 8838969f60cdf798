"""Latencies of a space, measured part by part, in a file, and joined with other costs."""

import json
import time
from dataclasses import astuple

import numpy as np
import pytest
import torch
from torch import nn

from razorlite.core.errors import BudgetError, ConfigError
from razorlite.cost import Constraint, CostTable, JoinedCost, LatencyTable, measured_latency
from razorlite.cost.end_to_end import PowerLaw
from razorlite.space import ChoiceSpace, Dimension, OneOf, SearchSpace
from tests.cost.elastic import ElasticConv


class Sleeps(nn.Module):
    """Takes a time that grows with the channels that come in, on any device."""

    def __init__(self, milliseconds):
        super().__init__()
        self.milliseconds = milliseconds
        self.ready = nn.Parameter(torch.ones(1))

    def forward(self, x):
        if not x.is_meta:
            time.sleep(self.milliseconds * x.shape[1] / 1000)
        return (
            x.flatten(2).transpose(1, 2).matmul(x.flatten(2)).sum((1, 2))[:, None, None, None] + x
        )


class Sleepy(nn.Module):
    """A width, and after it a choice whose time depends on both."""

    def __init__(self):
        super().__init__()
        self.first = ElasticConv(3, Dimension("width", (1, 3)))
        self.wait = OneOf(choices={"short": Sleeps(2), "long": Sleeps(8)}, space_id="wait")
        self.last = Sleeps(1)

    def forward(self, images):
        return self.last(self.wait(self.first(images)))


@pytest.fixture
def slept(monkeypatch):
    """Let time pass by sleeping alone."""
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])


@pytest.mark.usefixtures("slept")
def test_parts_that_sleep_add_up():
    space = SearchSpace(Sleepy())
    costs = measured_latency(space, (4, 4), rounds=3, warmup=1)
    found = costs.many(space.all_indices())["latency_ms"]
    # (2 or 8) x width + 1 x width, width 1 or 3
    for index, value in zip(space.all_indices().tolist(), found, strict=True):
        point = space.decode(index).choices
        expected = ({"short": 2, "long": 8}[point["wait"]] + 1) * point["width"]
        assert value == pytest.approx(expected)
    assert costs.bounds()["latency_ms"] == pytest.approx((3, 27))
    assert costs.largest("latency_ms").choices == {"width": 3, "wait": "long"}
    assert found.dtype == np.float64


@pytest.mark.usefixtures("slept")
def test_entries_are_medians_of_all_runs_that_show_them(monkeypatch):
    space, runs = SearchSpace(Sleepy()), []
    sleep = time.sleep

    def slower_at_first(seconds):
        runs.append(1)
        sleep(seconds * (10 if len(runs) <= 8 else 1))  # 4 points of 2 sleeping layers each

    monkeypatch.setattr(time, "sleep", slower_at_first)
    costs = measured_latency(space, (4, 4), rounds=3, warmup=0)
    assert len(runs) == 3 * 8
    assert costs.bounds()["latency_ms"] == pytest.approx((3, 27))


def test_measuring_leaves_the_supernet():
    space = SearchSpace(Sleepy())
    before = space.selected
    measured_latency(space, (4, 4), rounds=1, warmup=0)
    assert space.selected == before
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in space.model.modules())
    assert space.model.training


def sleepy_table(space, path, **changes):
    return LatencyTable(space=space, shape=(4, 4), file=str(path), rounds=1, **changes)


def test_a_file_is_written_once_and_read_ever_after(tmp_path):
    space, path = SearchSpace(Sleepy()), tmp_path / "latency.json"
    first = sleepy_table(space, path)
    assert not first.is_known
    assert first.names == ("latency_ms",)
    assert not path.exists()
    bounds, text = first.bounds(), path.read_text()
    second = sleepy_table(space, path)
    assert second.is_known
    assert second.bounds() == bounds
    points = space.all_indices()
    assert (second.many(points)["latency_ms"] == first.many(points)["latency_ms"]).all()
    assert path.read_text() == text
    assert json.loads(text)["space"] == space.fingerprint


class Doubled:
    """A timer by arithmetic: half the milliseconds that the parts sleep, to the power of 1.5."""

    def __init__(self, table):
        self.table, self.conditions = table, {"runtime": "arithmetic", "threads": 1}
        self.models = []

    def opened(self, model):
        self.models.append(model)
        waits = model.wait.milliseconds
        width = model.first.weight.shape[0]
        return lambda: 0.5 * ((waits + 1) * width) ** 1.5

    def in_turns(self, runs, rounds=None):
        return {name: [run()] for name, run in runs.items()}


@pytest.mark.usefixtures("slept")
def test_sums_are_brought_to_what_whole_models_take(tmp_path, caplog):
    space, path = SearchSpace(Sleepy()), tmp_path / "latency.json"
    timer = Doubled(space)
    with caplog.at_level("INFO", logger="razorlite"):
        table = sleepy_table(space, path, timer=timer)
        # (2 or 8) + 1 for each of 1 or 3 channels
        assert table.bounds()["latency_ms"] == pytest.approx((0.5 * 3**1.5, 0.5 * 27**1.5))
    assert "rank correlation (tau) with the table 1.00" in caplog.text
    points = space.all_indices()
    found = table.many(points)["latency_ms"]
    assert sorted(found) == pytest.approx([0.5 * 3**1.5, 13.5, 13.5, 0.5 * 27**1.5])
    written = json.loads(path.read_text())["end_to_end"]
    assert written["conditions"] == timer.conditions
    assert (written["scale"], written["power"]) == pytest.approx((0.5, 1.5))
    again = sleepy_table(space, path, timer=timer)
    assert (again.many(points)["latency_ms"] == found).all()
    timer.conditions = {"runtime": "another", "threads": 1}
    with pytest.raises(ConfigError, match=r"were timed in .*arithmetic.*give another file"):
        sleepy_table(space, path, timer=timer)


def test_a_power_law_never_falls():
    level = pytest.approx((8**0.5, 0.0))
    assert astuple(PowerLaw.fitted(np.array([1.0, 2.0]), np.array([4.0, 2.0]))) == level
    assert astuple(PowerLaw.fitted(np.array([1.0, 1.0]), np.array([4.0, 2.0]))) == level
    law = PowerLaw.fitted(np.array([1.0, 2.0, 4.0]), np.array([3.0, 12.0, 48.0]))
    assert astuple(law) == pytest.approx((3.0, 2.0))
    assert law(np.array([0.0, 3.0])) == pytest.approx([0.0, 27.0])


GIVEN = {
    "fixed": 1.5,
    "parts": [
        {"dimensions": ["wait"], "values": [0.5, 2]},
        {"dimensions": ["wait", "width"], "values": [[1, 2], [3, 4.25]]},
    ],
}


def test_a_table_may_be_given(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(GIVEN))
    space = SearchSpace(Sleepy())
    table = sleepy_table(space, path, name="phone_ms")
    assert [d.name for d in space.dimensions] == ["width", "wait"]
    points = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    assert table.many(points)["phone_ms"].tolist() == [3.0, 4.0, 6.5, 7.75]
    limit = Constraint.parse({"phone_ms": "5000us"}, table)
    assert limit.allows(table.many(points)).tolist() == [True, True, False, False]
    with pytest.raises(BudgetError, match=r"phone_ms <= 2 cannot be met: reachable are 3 to 7.75"):
        Constraint.parse({"phone_ms": "2ms"}, table)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [8, 8]}, r"of shape \[8, 8\], and \[4, 4\] is searched"),
        ({"space": "other"}, "of space other, and .* is searched; give another file"),
        ({"format": 2}, "of format 2, and 1"),
        ({"fixd": 1}, "unknown key 'fixd'; did you mean 'fixed'"),
        ({"fixed": "much"}, "wants numbers in lists of equal length, got 'much'"),
        ({"parts": [{"values": [1]}]}, "parts want dimensions and values"),
        ({"parts": [{"dimensions": ["wiat"], "values": [1, 2]}]}, "did you mean 'wait'"),
        ({"parts": [{"dimensions": ["wait"], "values": [1, 2, 3]}]}, r"shape \(2,\) over"),
        ({"parts": [{"dimensions": ["wait"], "values": [[1], 2]}]}, "lists of equal length"),
        ({"fixed": float("nan")}, "not finite"),
        ({"fixed": [1]}, "wants one number as fixed"),
        ({"parts": 3}, "and a list of parts"),
        ({"parts": [{"dimensions": "wait", "values": [1, 2]}]}, "list of names, got 'wait'"),
        ({"parts": [{"dimensions": [["wait"]], "values": [1, 2]}]}, "no dimension"),
    ],
)
def test_wrong_files_are_refused_in_one_line(changes, message, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**GIVEN, **changes}))
    with pytest.raises(ConfigError, match=message) as caught:
        sleepy_table(SearchSpace(Sleepy()), path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_json_is_refused(tmp_path):
    path = tmp_path / "mine.json"
    for text in ("{", "[1]"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"JSON|an object with fixed and parts"):
            sleepy_table(SearchSpace(Sleepy()), path)


def two_models():
    space = ChoiceSpace({"a": ("x", "y"), "b": ("x", "y")})
    counted = CostTable(space, fixed={"macs": 1}, shares={"macs": [[1, 2], [3, 4]]})
    timed = CostTable(space, fixed={"ms": 0.5}, shares={"ms": [[0.25, 1], [1, 2]]})
    return space, counted, timed


def test_joined_models_give_all_kinds_of_cost():
    space, counted, timed = two_models()
    joined = JoinedCost([counted, timed])
    assert joined.names == ("macs", "ms")
    found = joined.many(space.all_indices())
    assert found["macs"].tolist() == [5, 6, 6, 7]
    assert found["ms"].tolist() == [1.75, 2.75, 2.5, 3.5]
    assert joined.bounds() == {"macs": (5, 7), "ms": (1.75, 3.5)}
    both = Constraint.parse({"macs": 6, "ms": 2.6}, joined)
    assert both.allows(found).tolist() == [True, False, True, False]


def test_one_kind_of_cost_comes_from_one_model():
    _, counted, timed = two_models()
    with pytest.raises(ConfigError, match="two cost models give 'macs'"):
        JoinedCost([counted, timed, counted])


def test_a_table_of_another_device_is_refused(tmp_path):
    table = {"format": 1, "device": "cpu", "fixed": 1.0, "parts": []}
    file = tmp_path / "table.json"
    file.write_text(json.dumps(table))
    space = ChoiceSpace({"a": (1, 2)})
    LatencyTable(space=space, shape=(8, 8), file=str(file))
    with pytest.raises(ConfigError, match="device"):
        LatencyTable(space=space, shape=(8, 8), file=str(file), device="cuda")
