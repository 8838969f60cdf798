"""Costs that a configuration names besides the counted ones."""

import json
import sys

import numpy as np
import pytest

from razorlite.core.errors import BudgetError, ConfigError
from razorlite.cost import tabulate
from razorlite.recipes.building import build
from razorlite.recipes.checking import check_config
from razorlite.recipes.costing import check_constraints, search_costs
from razorlite.recipes.experiment import read
from razorlite.search import SearchConfig, build_study
from tests.recipes.runs import detector

OWN = f"{__name__}"


class Chosen:
    """How often a point takes the second of its values: a cost model of one's own."""

    names = ("chosen",)

    def __init__(self, *, space, shape, factor: float = 1.0):
        self.space, self.factor = space, factor

    def many(self, points):
        return {"chosen": self.factor * (points == 1).sum(axis=1)}

    def bounds(self):
        return {"chosen": (0.0, self.factor * len(self.space.counts))}


class Macs(Chosen):
    """Another opinion on MACs."""

    names = ("macs",)

    def many(self, points):
        return {"macs": super().many(points)["chosen"]}

    def bounds(self):
        return {"macs": super().bounds()["chosen"]}


class Nothing:
    """No cost model."""

    def __init__(self, *, space, shape):
        self.names = ()


def configured(*costs, **constraints):
    _, experiment = read(detector({"search": {"costs": [*costs], "constraints": constraints}}))
    return experiment, build(experiment)


def check(experiment, built):
    check_constraints(experiment.search, search_costs(experiment, built))


def block(kind, **changes):
    return {"type": f"{OWN}.{kind.__name__}", **changes}


def test_a_model_of_ones_own_stands_beside_the_counted_costs():
    experiment, built = configured(block(Chosen, factor=2.0), chosen=[2, 6])
    costs, space = search_costs(experiment, built), built.space
    assert costs.names == ("macs", "params", "chosen")
    points = space.random_indices(np.random.default_rng(0), 50)
    counted = tabulate(space, (64, 64)).many(points)
    assert (costs.many(points)["macs"] == counted["macs"]).all()
    check_constraints(experiment.search, costs)
    scored = []

    def score(subnet):
        scored.append(space.encode(subnet))
        return 1.0

    study = build_study(experiment.search, space=space, table=costs, score=score, seed=0)
    study.max_trials = 8
    study.run()
    assert {int((point == 1).sum()) for point in scored} <= {1, 2, 3}
    assert all(trial.cost["chosen"] in (2, 4, 6) for trial in study.trials)


def test_a_model_of_ones_own_may_take_the_place_of_the_counted_costs():
    experiment, built = configured(block(Macs), macs=3)
    assert search_costs(experiment, built).names == ("macs",)


@pytest.mark.parametrize(
    ("costs", "constraints", "kind", "message"),
    [
        ([block(Chosen), block(Macs)], {"chosen": [40, None]}, BudgetError, "reachable are 0 to"),
        ([block(Chosen), block(Macs)], {"chosn": 1}, ConfigError, "did you mean 'chosen'"),
        ([block(Macs), block(Macs)], {}, ConfigError, "two cost models give 'macs'"),
        (
            [block(Nothing)],
            {},
            ConfigError,
            r"Nothing is no cost model: .* many and",
        ),
    ],
)
def test_what_does_not_fit_is_refused(costs, constraints, kind, message):
    experiment, built = configured(*costs, **constraints)
    with pytest.raises(kind, match=message):
        check(experiment, built)


def test_latency_that_is_not_measured_yet_is_read_and_not_measured(tmp_path):
    path = tmp_path / "latency.json"
    table = {"type": "LatencyTable", "file": str(path), "rounds": 1}
    check(*configured(table, block(Macs), latency_ms="20ms", macs="90%"))
    assert not path.exists()
    with pytest.raises(ConfigError, match=r"constraints.latency_ms wants .* such as 20ms"):
        check(*configured(table, block(Macs), latency_ms="20 minutes"))
    path.write_text(json.dumps({"fixed": 3.0}))
    with pytest.raises(BudgetError, match="latency_ms <= 2 cannot be met: reachable are 3 to 3"):
        check(*configured(table, block(Macs), latency_ms="2ms"))


def test_config_check_measures_nothing_for_a_searcher_that_knows_costs(tmp_path):
    path = tmp_path / "latency.json"
    searcher = {"type": "PredictorSearcher", "max_trials": 20}
    table = {"type": "LatencyTable", "file": str(path), "rounds": 1}
    limits = {"latency_ms": "50%"}
    check_config(
        detector({"search": {"searcher": searcher, "costs": [table], "constraints": limits}})
    )
    assert not path.exists()


def test_config_check_names_faults_of_costs(tmp_path):
    path = tmp_path / "latency.json"
    path.write_text("{")
    search = {"costs": [{"type": "LatencyTable", "file": str(path)}]}
    with pytest.raises(ConfigError, match=r"search.costs.0: LatencyTable .* be read as JSON"):
        check_config(detector({"search": search}))


@pytest.mark.parametrize("runtime", ["onnxruntime", "onnx-int8"])
def test_a_runtime_that_is_not_installed_is_named_before_work(runtime, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    latency, path = {"runtime": runtime}, str(tmp_path / "latency.json")
    search = {"costs": [{"type": "LatencyTable", "file": path, "latency": latency}]}
    with pytest.raises(ConfigError, match=r"search.*onnxscript is not installed; run: pip"):
        check_config(detector({"search": search}))


def test_costs_are_none_by_default():
    assert SearchConfig().costs == []
