"""A budget of latency: predictions that are off are corrected, and the search goes on."""

import json

import pytest
from torch import nn

from razorlite.core.config import Partial
from razorlite.core.journal import Journal
from razorlite.cost import Constraint, JoinedCost, LatencyTable
from razorlite.recipes.searched_latency import LatencyRounds
from razorlite.search import EvolutionSearcher, SearchConfig, build_study
from razorlite.space import ChoiceSpace

CONDITIONS = {"runtime": "pytorch", "threads": 1}


class Space(ChoiceSpace):
    """Choices that become models which know them."""

    def export(self, subnet):
        model = nn.Module()
        model.choices = dict(subnet.choices)
        return model


class Timer:
    """Gives models the times that they are said to take; tells how often it was asked."""

    conditions = CONDITIONS

    def __init__(self, truth):
        self.truth, self.number = truth, 0

    def opened(self, model):
        return lambda: self.truth(model.choices)

    def in_turns(self, runs):
        self.number += 1
        return {name: [run()] for name, run in runs.items()}


SPACE = Space({f"w{i}": (1, 2, 3, 4) for i in range(6)})


def table(folder, timer):
    """Milliseconds are 1 and the sum of all values: 7 to 25."""
    parts = [{"dimensions": [name], "values": [1, 2, 3, 4]} for name in SPACE.choices]
    whole = {"scale": 1.0, "power": 1.0, "conditions": CONDITIONS}
    tree = {"format": 1, "fixed": 1.0, "parts": parts, "end_to_end": whole}
    file = folder / "table.json"
    file.write_text(json.dumps(tree))
    return LatencyTable(space=SPACE, shape=(8, 8), file=str(file), timer=timer)


def total(choices):
    """Return the milliseconds that the table has."""
    return 1 + sum(choices.values())


def score(subnet):
    return float(sum(value * (1 + 0.1 * i) for i, value in enumerate(subnet.choices.values())))


def searched(folder, truth, limit="60%", rounds=4):
    """Search within a budget where models really take other times than the table has."""
    timer, asked = Timer(truth), []

    def counted(subnet):
        asked.append(tuple(subnet.choices.values()))
        return score(subnet)

    settings = {"population_size": 12, "num_mutation": 5, "num_crossover": 5, "max_rounds": 4}
    config = SearchConfig(searcher=Partial(EvolutionSearcher, settings), metric="score")
    costs = JoinedCost([table(folder, timer)])

    def study(number, costs, constraint, known=()):
        journal = folder / f"journal-{number}.jsonl"
        found = build_study(
            config,
            space=SPACE,
            table=costs,
            score=counted,
            journal=journal,
            constraint=constraint,
            known=known,
        )
        found.run(resume=True)
        return found

    first = study(1, costs, Constraint.parse({"latency_ms": limit} if limit else {}, costs))
    found = LatencyRounds(SPACE, costs, folder, rounds, study).run(first)
    return *found, timer.number, asked


@pytest.mark.parametrize("offset", [6.0, -4.0])
def test_what_the_table_misses_is_corrected_until_the_budget_is_met(tmp_path, offset, caplog):
    study, record, timed, asked = searched(tmp_path, lambda c: total(c) + offset)
    assert record["share"] <= 0.6
    assert record["share"] == pytest.approx(record["predicted_share"], rel=0.05)
    assert record["share"] > 0.5  # and not by giving up half of the budget
    assert record["predicted_ms"] == study.best.cost["latency_ms"]
    assert record["searches"] == timed > 1
    assert len(set(asked)) == len(asked)  # no candidate is scored twice
    assert not [r for r in caplog.records if r.levelname == "WARNING"]
    lines = {path: Journal(path).read() for path in tmp_path.glob("*.jsonl")}
    again, same, timed, asked = searched(tmp_path, None)
    assert (again.best.subnet, same, timed, asked) == (study.best.subnet, record, 0, [])
    assert {path: Journal(path).read() for path in tmp_path.glob("*.jsonl")} == lines


@pytest.mark.parametrize("dear", ["w0", "w5"])
def test_what_is_off_for_some_subnets_is_not_held_against_all(tmp_path, dear):
    def truth(choices):
        return total(choices) + 3.0 * (choices[dear] - 1)

    _, record, timed, _ = searched(tmp_path, truth)
    assert record["share"] <= 0.6
    assert record["share"] == pytest.approx(record["predicted_share"], rel=0.05)
    assert record["share"] > 0.5
    assert timed <= 3


def test_a_good_prediction_is_timed_once_and_kept(tmp_path):
    study, record, timed, _ = searched(tmp_path, lambda c: 1.3 * total(c))
    assert timed == 1
    assert record["share"] == pytest.approx(record["predicted_share"])
    assert len(study.trials) == 48


def test_without_a_budget_it_is_timed_and_a_warning_says_how_far_off_it_is(tmp_path, caplog):
    _, record, timed, _ = searched(tmp_path, lambda c: total(c) ** 2, limit=None, rounds=0)
    assert timed == 1
    assert record["searches"] == 1


def test_what_cannot_be_met_is_told(tmp_path, caplog):
    _, record, timed, _ = searched(tmp_path, lambda c: 100 + total(c), rounds=2)
    assert record["share"] > 0.6
    assert timed <= 3
    assert "are allowed" in caplog.text
