"""Searchers and workers from outside: one that learns a predictor, and threads that score."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from razorlite.core.errors import ConfigError, RunFolderError
from razorlite.search import ExhaustiveSearcher, RandomSearcher, Searcher, Study
from tests.search.contract import SearcherContract, candidates, score, small_space
from tests.search.test_failures import records

RIDGE, POOL = 0.1, 200


class PredictorSearcher(Searcher):
    """Fits a ridge regression on one-hot choices, and proposes what it predicts to be best."""

    def __init__(self, *, candidates, size=6, rounds=5):
        super().__init__(candidates, size=size, rounds=rounds)
        self.size, self.left = size, rounds
        self.columns = int(candidates.space.counts.sum())
        self.normal = RIDGE * np.eye(self.columns)
        self.moment = np.zeros(self.columns)

    def ask(self):
        if not self.left:
            return self.candidates.stacked([])
        self.left -= 1
        pool = self.candidates.space.random_indices(self.candidates.rng, POOL)
        weights = np.linalg.solve(self.normal, self.moment)
        found = []
        for point in pool[np.argsort(-self.one_hot(pool) @ weights, kind="stable")]:
            if len(found) < self.size and self.candidates.take(point):
                found.append(point)
        fresh = self.candidates.random(self.size - len(found))
        return self.candidates.stacked([*found, *fresh])

    def tell(self, trials):
        for trial in trials:
            if trial.score is not None:
                row = self.one_hot(self.candidates.space.encode(trial.subnet)[None])[0]
                self.normal += np.outer(row, row)
                self.moment += row * trial.score

    def state_dict(self):
        state = {"left": self.left, "normal": self.normal.tolist(), "moment": self.moment.tolist()}
        return {**super().state_dict(), **state}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.left = state["left"]
        self.normal, self.moment = np.array(state["normal"]), np.array(state["moment"])

    def one_hot(self, points):
        counts = self.candidates.space.counts
        starts = np.cumsum(counts) - counts
        rows = np.zeros((len(points), self.columns))
        rows[np.arange(len(points))[:, None], starts + points] = 1.0
        return rows


class Unrepeatable(PredictorSearcher):
    """Draws on outside randomness: it would propose otherwise each time."""

    def ask(self):
        self.candidates.rng = np.random.default_rng()
        return super().ask()


class TestPredictor(SearcherContract):
    def make(self, candidates):
        return PredictorSearcher(candidates=candidates)

    def test_the_state_does_not_grow_with_the_search(self):
        searcher = self.make(candidates())
        first = None
        while len(points := searcher.ask()):
            size = len(json.dumps(searcher.state_dict()))
            first = first or size
            searcher.tell([])
            assert size < 2 * first
            assert len(points)


class Threads:
    """Scores candidates in threads, the last one first."""

    def __init__(self, size):
        self.size = size

    def run(self, score, candidates):
        with ThreadPoolExecutor(self.size) as pool:
            backwards = dict(reversed(candidates.items()))
            return dict(zip(backwards, pool.map(score, backwards.values()), strict=True))


def make_study(journal, kind=PredictorSearcher, calls=None, **settings):
    found = candidates(seed=4, constraint={"macs": "80%"})

    def metrics(subnet):
        if calls is not None:
            calls.append(subnet)
        return {"AP": score(found.space, subnet)}

    searcher = kind(candidates=found)
    return Study(searcher=searcher, score=metrics, journal=journal, metric="AP", **settings)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("razorlite.core.journal.os.fsync", lambda _: None)


@pytest.fixture(scope="module")
def whole(module_path):
    """The lines of an uninterrupted journal, and its records without times."""
    path = module_path / "journal.jsonl"
    make_study(path).run()
    return path.read_bytes().splitlines(keepends=True), records(path)


def test_a_predictor_finds_more_than_chance(whole):
    best = max(line["score"] for line in whole[1] if "trial" in line)
    chance = make_study(None, RandomSearcher, max_trials=30).run().score
    assert best == 0
    assert best > chance


def test_killed_at_any_line_it_goes_on_exactly(tmp_path, whole):
    lines, expected = whole
    path = tmp_path / "journal.jsonl"
    assert len(lines) == 1 + 5 * (1 + 6)
    for kept in range(len(lines) + 1):
        torn = [*lines, b""][kept]
        path.write_bytes(b"".join(lines[:kept]) + torn[: len(torn) // 2 * (kept % 3 > 0)])
        calls = []
        make_study(path, calls=calls).run(resume=True)
        assert records(path) == expected, kept
        left = [line for line in expected[kept:] if "trial" in line]
        assert [dict(subnet.choices) for subnet in calls] == [line["choices"] for line in left]


def test_a_batch_half_scored_is_completed_with_exactly_its_proposals(tmp_path):
    whole, path = tmp_path / "whole.jsonl", tmp_path / "journal.jsonl"
    make_study(whole, Unrepeatable).run()
    lines = whole.read_bytes().splitlines(keepends=True)
    for kept in (2, 5, 7, 9, 13):
        path.write_bytes(b"".join(lines[:kept]))
        make_study(path, Unrepeatable).run(resume=True)
        batches = [line for line in records(path) if "batch" in line]
        begun = 1 + (kept - 2) // 7
        assert batches[:begun] == [x for x in records(whole) if "batch" in x][:begun]
        proposed = [point for batch in batches for point in batch["proposals"]]
        space = candidates().space
        scored = [
            [space.choices[name].index(value) for name, value in line["choices"].items()]
            for line in records(path)
            if "trial" in line
        ]
        assert scored == proposed
        assert len({tuple(point) for point in proposed}) == len(proposed)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_threads_give_the_same_however_many(tmp_path, whole, size):
    path = tmp_path / "journal.jsonl"
    make_study(path, workers=Threads(size)).run()
    assert records(path) == whole[1]


def test_a_journal_goes_on_with_another_number_of_workers(tmp_path, whole):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(whole[0][:12]))
    make_study(path, workers=Threads(4)).run(resume=True)
    assert records(path) == whole[1]


def test_a_budget_that_ends_inside_a_batch_extends_exactly(tmp_path, whole):
    path = tmp_path / "journal.jsonl"
    for budget in (4, 5, 6, 9, 29):
        study = make_study(path, max_trials=budget, workers=Threads(4))
        study.run(resume=True)
        assert len(study.trials) == budget
    make_study(path).run(resume=True)
    assert records(path) == whole[1]


def test_the_journal_grows_by_its_trials_alone(tmp_path, whole):
    sizes = [len(line) for line in whole[0] if line.startswith(b'{"batch"')]
    assert max(sizes) < 1.5 * min(sizes)


def test_states_that_json_cannot_hold_are_refused(tmp_path):
    class Odd(PredictorSearcher):
        def state_dict(self):
            return {"normal": self.normal}

    with pytest.raises(ConfigError, match=r"plain values alone, as the journal needs: .*ndarray"):
        make_study(tmp_path / "journal.jsonl", Odd).run()


def test_a_state_of_another_version_is_refused_by_name(tmp_path, whole):
    class Changed(PredictorSearcher):
        def load_state_dict(self, state):
            raise KeyError("variance")

    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(whole[0][:5]))
    Changed.__name__ = "PredictorSearcher"
    with pytest.raises(RunFolderError, match=r"cannot take up its state of batch 0 .KeyError"):
        make_study(path, Changed).run(resume=True)


class Forgetful(Threads):
    """Loses a candidate without a word."""

    def run(self, score, candidates):
        return dict(list(super().run(score, candidates).items())[1:])


def test_workers_that_lose_a_candidate_are_named(tmp_path):
    with pytest.raises(Exception, match="the workers have not scored trial 2, and say no reason"):
        make_study(tmp_path / "journal.jsonl", workers=Forgetful(3)).run()


def test_searchers_that_propose_alike_points_are_not_paid_twice():
    class Repeating(ExhaustiveSearcher):
        def ask(self):
            return np.array(next(points))

    for size in (1, 2, 3, 9):
        points = iter([[[0, 0], [1, 1], [0, 0]], [[1, 1], [2, 2]], []])
        calls = []
        study = Study(
            searcher=Repeating(candidates=candidates(places=2)),
            score=lambda subnet, calls=calls: calls.append(subnet) or score(small_space(2), subnet),
            workers=Threads(size),
        )
        study.run()
        assert [trial.score for trial in study.trials] == [-2.0, 0.0, -2.0, 0.0, -2.0]
        assert len(calls) == 3
