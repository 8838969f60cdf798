"""Objectives: how they are written, their values, the best and the front."""

import math

import pytest

from razorlite.core.config import Partial
from razorlite.core.errors import ConfigError
from razorlite.search import (
    EvolutionSearcher,
    ExhaustiveSearcher,
    Objectives,
    RandomSearcher,
    SearchConfig,
    Study,
)
from tests.search.contract import candidates, score
from tests.search.test_failures import records


@pytest.mark.parametrize(
    ("spec", "directions"),
    [
        ("AP", {"AP": "max"}),
        (["AP", "APs"], {"AP": "max", "APs": "max"}),
        (("AP",), {"AP": "max"}),
        ({"latency_ms": "min", "AP": "max"}, {"latency_ms": "min", "AP": "max"}),
    ],
)
def test_how_objectives_are_written(spec, directions):
    objectives = Objectives.parse(spec)
    assert dict(objectives.directions) == directions
    assert objectives.first == next(iter(directions))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ([], "metric names nothing to search by; name a metric such as AP"),
        ({}, "metric names nothing"),
        (["AP", "AP"], "metric names 'AP' twice"),
        ({"AP": "more"}, "metric.AP takes max or min, got 'more'"),
    ],
)
def test_wrong_objectives_are_refused(spec, message):
    with pytest.raises(ConfigError, match=message):
        Objectives.parse(spec)
    with pytest.raises(ConfigError, match=message):
        SearchConfig(metric=spec, searcher=Partial(RandomSearcher, {}))


def test_values_are_large_where_the_objective_is_met():
    objectives = Objectives.parse({"AP": "max", "macs": "min", "error": "min"})
    values = objectives.values({"AP": 0.4, "error": 0.25, "other": 9.0}, {"macs": 300})
    assert values == (0.4, -300.0, -0.25)
    assert objectives.measured(values) == {"AP": 0.4, "macs": 300.0, "error": 0.25}
    assert objectives.fault(values) is None
    assert objectives.fault((0.4, math.inf, 0.0)) == "macs is -inf"
    # a metric comes before a cost of the same name
    assert Objectives.parse("macs").values({"macs": 1.0}, {"macs": 2}) == (1.0,)


def test_an_objective_that_nothing_gives_is_named():
    with pytest.raises(ConfigError, match=r"'mac' is not .*AP, nor among the costs macs; did"):
        Objectives.parse(["AP", "mac"]).values({"AP": 1.0}, {"macs": 1})


def make_study(metric, kind=ExhaustiveSearcher, journal=None, **settings):
    found = candidates(places=3)

    def metrics(subnet):
        value = score(found.space, subnet)
        return {"AP": value, "error": -value}

    return Study(
        searcher=kind(candidates=found), score=metrics, metric=metric, journal=journal, **settings
    )


def test_a_small_objective_gives_the_same_best_as_its_negative():
    large, small = make_study("AP"), make_study({"error": "min"})
    assert large.run().number == small.run().number
    assert small.best.scores["error"] == 0.0
    costly = make_study({"macs": "max"})
    assert dict(costly.run().cost) == {"macs": 10 + 4 * (1 + 2 + 3)}


def test_the_front_of_accuracy_and_cost_by_hand(tmp_path):
    study = make_study({"AP": "max", "macs": "min"}, journal=tmp_path / "journal.jsonl")
    best = study.run()
    assert set(best.subnet.choices.values()) == {"b"}
    # all "b" costs 10 + 2 * 6 = 22; each "a" instead costs one AP and saves 1, 2 or 3 MACs, so the
    # front takes them from the last dimension, the most costly one, and 21, 20 are beaten
    expected = [(0.0, -22.0), (-1.0, -19.0), (-2.0, -17.0), (-3.0, -16.0)]
    assert [trial.values for trial in study.front] == expected
    again = make_study({"AP": "max", "macs": "min"}, journal=tmp_path / "journal.jsonl")
    again.run(resume=True)
    assert [trial.number for trial in again.front] == [trial.number for trial in study.front]
    assert records(tmp_path / "journal.jsonl")[0]["metric"] == {"AP": "max", "macs": "min"}


def test_failed_candidates_are_on_no_front():
    def metrics(subnet):
        return {"AP": math.nan if subnet.choices["place_0"] == "b" else 1.0}

    found = candidates(places=2)
    study = Study(
        searcher=RandomSearcher(candidates=found, max_trials=9),
        score=metrics,
        metric={"AP": "max", "macs": "min"},
    )
    study.run()
    assert [dict(t.subnet.choices) for t in study.front] == [{"place_0": "a", "place_1": "a"}]
    assert {t.error for t in study.trials if t.score is None} == {"AP is nan"}


def test_searchers_of_one_objective_say_so():
    message = r"EvolutionSearcher understands one objective, got AP \(max\), macs \(min\); name one"
    with pytest.raises(ConfigError, match=message):
        make_study({"AP": "max", "macs": "min"}, EvolutionSearcher)
    with pytest.raises(ConfigError, match=message):
        SearchConfig(metric={"AP": "max", "macs": "min"})


def test_one_value_for_several_objectives_is_refused():
    study = Study(
        searcher=RandomSearcher(candidates=candidates()),
        score=lambda subnet: 1.0,
        metric=["AP", "APs"],
    )
    with pytest.raises(ConfigError, match=r"gives one value, 1.0, and the search is for AP, APs"):
        study.run()
