"""Whose fault a failure is: the candidate's own, or one that ends the search and can be mended."""

import errno

import numpy as np
import pytest
import torch

from razorlite.core import files, journal
from razorlite.core.errors import ConfigError, DataError, RunFolderError
from razorlite.core.journal import Journal
from razorlite.cost import Constraint, CostTable, Limit
from razorlite.search import (
    CandidateError,
    Candidates,
    EvolutionSearcher,
    RandomSearcher,
    SearchError,
    Study,
)
from razorlite.search.feasible import Feasible
from razorlite.search.workers import Attempt, Outcome, ProcessWorkers
from razorlite.space import ChoiceSpace
from tests.search.contract import candidates, score, small_space

FAULTS = [
    (OSError(errno.EIO, "Input/output error"), SearchError, r"OSError: \[Errno 5\] Input/output"),
    (RuntimeError("CUDA error: an illegal\naccess"), SearchError, "RuntimeError: CUDA error: an i"),
    (DataError("a data worker died"), DataError, "a data worker died"),
    (MemoryError(), SearchError, "MemoryError: "),
    (ValueError("a mistake in the score"), SearchError, "ValueError: a mistake"),
    (torch.OutOfMemoryError("CUDA out of memory"), SearchError, "OutOfMemoryError: CUDA"),
]


def make_study(path, act=lambda number: None, **settings):
    """Return a study that calls `act` with the number of each call of its score."""
    found = candidates(seed=5, constraint={"macs": "80%"})
    calls = iter(range(1000))

    def metrics(subnet):
        act(next(calls))
        return {"AP": score(found.space, subnet)}

    searcher = EvolutionSearcher(
        candidates=found, population_size=6, num_mutation=2, num_crossover=2, max_rounds=3
    )
    return Study(searcher=searcher, score=metrics, journal=path, **{"metric": "AP", **settings})


def raising(error, at):
    def act(number):
        if number == at:
            raise error

    return act


def records(path):
    """Return the journal's lines, times apart."""
    lines = Journal(path).read()
    return [{**line, "seconds": 0} if "trial" in line else line for line in lines]


def up_to(lines, trials):
    """Return a journal's lines before the one of a trial."""
    return lines[: next(i for i, line in enumerate(lines) if line.get("trial") == trials)]


@pytest.fixture(scope="module")
def whole(module_path):
    """Records of an uninterrupted search."""
    path = module_path / "journal.jsonl"
    make_study(path).run()
    return records(path)


@pytest.mark.parametrize(("error", "kind", "message"), FAULTS)
def test_the_surroundings_end_a_search_and_resuming_scores_again(
    tmp_path, whole, error, kind, message
):
    path = tmp_path / "journal.jsonl"
    expected = rf"scoring trial 7 stopped the search: {message}.*; the 7 trials before it are kept"
    with pytest.raises(kind, match=expected) as caught:
        make_study(path, raising(error, 7)).run()
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error
    assert records(path) == up_to(whole, 7)
    make_study(path).run(resume=True)
    assert records(path) == whole


def test_an_interrupted_search_resumes_to_the_same_end(tmp_path, whole):
    path = tmp_path / "journal.jsonl"
    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            make_study(path, raising(KeyboardInterrupt(), 5)).run(resume=resume)
    assert records(path) == up_to(whole, 10)
    make_study(path).run(resume=True)
    assert records(path) == whole


@pytest.mark.parametrize("error", [CandidateError("no boxes"), ZeroDivisionError("no boxes")])
def test_a_candidates_own_fault_is_recorded_and_trusted(tmp_path, error):
    path = tmp_path / "journal.jsonl"
    study = make_study(path, raising(error, 3), catch=(ArithmeticError,))
    study.run()
    assert [t.number for t in study.trials if t.score is None] == [3]
    name = "ZeroDivisionError: " if isinstance(error, ArithmeticError) else ""
    assert study.trials[3].error == f"{name}no boxes"
    again = make_study(path, lambda number: pytest.fail("scored again"))
    assert again.run(resume=True).number == study.best.number


@pytest.mark.parametrize("value", ["0.9", None, [1, 2], torch.zeros(2)])
def test_a_score_that_is_no_number_is_named(value):
    for result in (value, {"AP": value}):
        attempt = Attempt(lambda subnet, result=result: result, ("AP",))
        kind, message = attempt(small_space().decode([0] * 6)).stop
        assert kind is ConfigError
        assert "wants a number for 'AP', got" in message


class Three(ProcessWorkers):
    """Three processes, of which each scores one candidate."""

    size = 3

    def __init__(self, broken=None):
        super().__init__()
        self.broken = broken

    def run(self, score, candidates):
        outcomes = {number: score(subnet) for number, subnet in candidates.items()}
        if self.broken in outcomes:
            outcomes[self.broken] = Outcome(stop=(DataError, "rank 1: no such image"))
        return outcomes


def test_processes_record_what_comes_before_the_one_that_failed(tmp_path, whole):
    path = tmp_path / "journal.jsonl"
    with pytest.raises(DataError, match="scoring trial 4 stopped the search: rank 1: no such"):
        make_study(path, workers=Three(broken=4)).run()
    assert records(path) == up_to(whole, 4)
    make_study(path, workers=Three()).run(resume=True)
    assert records(path) == whole


def test_a_full_disk_leaves_a_journal_to_resume(tmp_path, whole, monkeypatch):
    path = tmp_path / "journal.jsonl"

    def fill(number):
        if number == 6:
            monkeypatch.setattr(journal.os, "fsync", full)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RunFolderError, match=r"cannot write .*journal.jsonl: the disk is full"):
        make_study(path, fill).run()
    monkeypatch.undo()
    make_study(path).run(resume=True)
    assert records(path) == whole


def test_a_read_only_folder_is_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files.Path, "mkdir", refuse)
    with pytest.raises(RunFolderError, match="the file system is read-only; choose another"):
        make_study(tmp_path / "new" / "journal.jsonl").run()


@pytest.mark.parametrize("name", ["max_trials", "max_failures"])
@pytest.mark.parametrize("value", [0, -3])
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name} must be at least 1, got {value}"):
        make_study(None, **{name: value})


def test_a_budget_extends_a_search_and_never_loses_trials(tmp_path, whole):
    path = tmp_path / "journal.jsonl"
    make_study(path, max_trials=9).run()
    assert records(path) == up_to(whole, 9)
    study = make_study(path, max_trials=4)
    study.run(resume=True)
    assert len(study.trials) == 9
    make_study(path).run(resume=True)
    assert records(path) == whole


def test_a_constraint_without_its_cost_is_refused():
    space = small_space()
    limits = Constraint((Limit("latency_ms", 0.0, 30.0),))
    macs = CostTable(space, fixed={"macs": 0}, shares={"macs": [[1, 2, 3]] * 6})
    for table, known in ((None, "none: there is no cost table"), (macs, "macs;")):
        with pytest.raises(ConfigError, match=f"'latency_ms', and the costs known are {known}"):
            Candidates(space=space, table=table, constraint=limits)


class Energy:
    """A cost model of one's own: plain lists are numbers, too."""

    names = ("energy",)

    def __init__(self, give):
        self.give = give

    def many(self, points):
        return {"energy": self.give(points)}

    def bounds(self):
        return {"energy": (0.0, 4.0)}


def test_any_object_with_the_three_members_is_a_cost_model():
    space = ChoiceSpace({"a": ("x", "y"), "b": ("x", "y", "z")})
    table = Energy(lambda points: (points.sum(axis=1) + 0.5).tolist())
    limits = Constraint.parse({"energy": ["30%", 2.5]}, table)
    found = Candidates(space=space, table=table, constraint=limits)
    study = Study(searcher=RandomSearcher(candidates=found, max_trials=9), score=lambda subnet: 1.0)
    study.run()
    assert sorted(trial.cost["energy"] for trial in study.trials) == [1.5, 1.5, 2.5, 2.5]


@pytest.mark.parametrize(
    ("give", "came"),
    [
        (lambda points: points, r"int64 of shape \(1, 2\)"),
        (lambda points: 3.0, r"float64 of shape \(\)"),
        (lambda points: ["much"] * len(points), r"<U4 of shape \(1,\)"),
    ],
)
def test_costs_of_another_shape_are_refused(give, came):
    feasible = Feasible(Energy(give))
    with pytest.raises(ConfigError, match=rf"Energy.many .* 'energy' at 1 points, got {came}"):
        feasible.costs(np.zeros((1, 2), dtype=np.int64))


def test_a_kind_of_cost_that_is_not_given_is_refused():
    table = Energy(lambda points: points.sum(axis=1))
    table.names = ("energy", "heat")
    with pytest.raises(ConfigError, match=r"Energy.many .* 'heat' at 4 points, got none"):
        Feasible(table).costs(np.zeros((4, 2), dtype=np.int64))


def test_costs_that_are_no_whole_numbers_stay_so(tmp_path):
    space = ChoiceSpace({"a": ("x", "y"), "b": ("x", "y")})
    shares = {"latency_ms": [[0.25, 1.5], [0.1, 0.2]]}
    table = CostTable(space, fixed={"latency_ms": 3}, shares=shares)
    limits = Constraint.parse({"latency_ms": 3.5}, table)

    def search(resume):
        found = Candidates(space=space, table=table, constraint=limits)
        study = Study(
            searcher=RandomSearcher(candidates=found, max_trials=9),
            score=lambda subnet: float(subnet.choices["b"] == "y"),
            journal=tmp_path / "journal.jsonl",
        )
        return study, study.run(resume=resume)

    for resume in (False, True):
        study, best = search(resume)
        assert dict(best.cost) == {"latency_ms": 3.45}
        assert [t.cost["latency_ms"] for t in study.trials] == [3.35, 3.45]
    path = tmp_path / "subnet.yaml"
    best.subnet.save(path)
    assert space.load(path).cost == {"latency_ms": 3.45}
