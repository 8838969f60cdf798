"""The study: its loop, journal, resuming, failures and processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from razorlite.core.config import Partial
from razorlite.core.errors import BudgetError, ConfigError, EvaluationError, RunFolderError
from razorlite.cost import CostTable
from razorlite.search import (
    CandidateError,
    EvolutionSearcher,
    ExhaustiveSearcher,
    RandomSearcher,
    SearchConfig,
    Searcher,
    SearchError,
    Study,
    SupernetScore,
    build_study,
)
from tests.models.learning import marked
from tests.search.contract import candidates, score, small_space, small_table
from tests.search.test_failures import records
from tests.space.supernets import images, shuffle_space

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("study_script.py")


def make_study(journal=None, *, fails=lambda subnet: False, seed=1, constraint=None, **kwargs):
    found = candidates(seed=seed, constraint=constraint)

    def metrics(subnet):
        if fails(subnet):
            raise CandidateError("two\nlines")
        return {"AP": score(found.space, subnet)}

    defaults = {"searcher": RandomSearcher(candidates=found, max_trials=30), "score": metrics}
    return Study(journal=journal, **{"metric": "AP", **defaults, **kwargs})


def outcome(study):
    return [(t.number, dict(t.subnet.choices), t.score, t.error) for t in study.trials]


def test_best_is_the_highest_score_and_carries_its_metrics():
    found = candidates(places=4)
    study = Study(
        searcher=ExhaustiveSearcher(candidates=found),
        score=lambda subnet: score(found.space, subnet),
    )
    best = study.run()
    assert len(study.trials) == 81
    assert set(best.subnet.choices.values()) == {"b"}
    assert best.score == 0
    assert dict(best.subnet.cost) == {"macs": 10 + 2 * (1 + 2 + 3 + 4)}
    assert dict(best.subnet.scores) == {"score": 0}
    assert study.front == [best]


def test_journal_holds_every_trial(tmp_path):
    study = make_study(tmp_path / "journal.jsonl")
    best = study.run()
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert lines[0]["searcher"] == {"type": "RandomSearcher", "seed": 1, "max_trials": 30}
    assert lines[0]["metric"] == {"AP": "max"}
    assert lines[1]["proposals"] == [study.space.encode(t.subnet).tolist() for t in study.trials]
    assert [line["trial"] for line in lines[2:]] == list(range(30))
    winner = lines[2 + best.number]
    assert winner["score"] == max(line["score"] for line in lines[2:])
    assert winner["choices"] == dict(best.subnet.choices)
    assert winner["cost"] == study.feasible.cost(study.space.encode(best.subnet))


@pytest.mark.parametrize("kept", [0, 1, 2, 3, 17, 32])
@pytest.mark.parametrize("torn", ["", '{"trial": 17, "score'])
def test_resumed_study_equals_uninterrupted(tmp_path, kept, torn):
    whole = make_study(tmp_path / "whole.jsonl")
    whole.run()
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    part = tmp_path / "part.jsonl"
    part.write_text("".join(lines[:kept]) + torn)
    calls = []
    study = make_study(part, fails=lambda subnet: calls.append(1))
    best = study.run(resume=True)
    assert outcome(study) == outcome(whole)
    assert best.number == whole.best.number
    assert len(calls) == 32 - max(kept, 2)
    assert records(part) == records(tmp_path / "whole.jsonl")


def test_existing_journal_is_not_written_over(tmp_path):
    path = tmp_path / "journal.jsonl"
    make_study(path).run()
    before = path.read_bytes()
    with pytest.raises(RunFolderError, match="holds a search of 30 trials; resume it, or choose"):
        make_study(path).run()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"constraint": {"macs": 60}}, r"constraint.macs was absent, now \[0.0, 60"),
        ({"seed": 2}, "searcher.seed was 1, now 2"),
        ({"settings": {"data": {"mean": 1}}}, r"settings.data.mean was absent, now 1"),
        (
            {"searcher": RandomSearcher(candidates=candidates(seed=1), max_trials=9)},
            "searcher.max_trials was 30, now 9; use the old",
        ),
        ({"metric": {"AP": "min"}}, "metric.AP was max, now min"),
        ({"metric": "AP50"}, "metric.AP50 was absent, now max .and 1 more: metric.AP"),
    ],
)
def test_resuming_another_search_is_refused(tmp_path, change, message):
    path = tmp_path / "journal.jsonl"
    make_study(path).run()
    before = path.read_bytes()
    with pytest.raises(RunFolderError, match=message) as caught:
        make_study(path, **change).run(resume=True)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_resuming_another_space_is_refused(tmp_path):
    path = tmp_path / "journal.jsonl"
    make_study(path).run()
    other = RandomSearcher(candidates=candidates(seed=1, places=5), max_trials=30)
    with pytest.raises(RunFolderError, match="space was"):
        make_study(path, searcher=other).run(resume=True)


def test_failing_candidates_are_recorded_and_the_search_goes_on(tmp_path):
    fails = lambda subnet: subnet.choices["place_0"] == "a"  # noqa: E731
    study = make_study(tmp_path / "journal.jsonl", fails=fails)
    best = study.run()
    failed = [trial for trial in study.trials if trial.score is None]
    assert 0 < len(failed) < 30
    assert {trial.error for trial in failed} == {"two lines"}
    assert best.subnet.choices["place_0"] != "a"
    again = make_study(tmp_path / "journal.jsonl", fails=fails)
    again.run(resume=True)
    assert outcome(again) == outcome(study)


def test_score_that_is_not_finite_fails_its_candidate():
    study = make_study(score=lambda subnet: {"AP": float("nan")}, max_failures=3)
    with pytest.raises(SearchError, match=r"all of the first 3 .* failed; the first: AP is nan"):
        study.run()


def test_all_failing_is_one_clear_error():
    study = make_study(fails=lambda subnet: True)
    with pytest.raises(SearchError, match=r"first 10 candidates failed; .*the first: two lines"):
        study.run()
    assert len(study.trials) == 10


def test_missing_metric_is_a_config_error():
    study = make_study(score=lambda subnet: {"AP50": 1.0, "top1": 2.0})
    with pytest.raises(
        ConfigError,
        match=r"'AP' is not among the metrics AP50, top1, nor among the costs macs; did you mean",
    ):
        study.run()


def test_budget_of_trials_and_progress():
    seen = []
    study = make_study(max_trials=7, progress=lambda study, trial: seen.append(trial.number))
    study.run()
    assert seen == list(range(7))


class Careless(Searcher):
    """Proposes the same points again and some over budget."""

    def __init__(self, candidates):
        super().__init__(candidates)
        self.told = []

    def ask(self):
        return np.array([[c] * 6 for c in ((0, 2, 0, 1, 1) if not self.told else ())])

    def tell(self, trials):
        self.told += [(t.number, t.score, t.error) for t in trials]


def test_the_study_itself_sees_to_duplicates_and_feasibility():
    calls = []

    def metrics(subnet):
        calls.append(subnet)
        return {"AP": float(len(calls))}

    searcher = Careless(candidates(constraint={"macs": 60}))
    make_study(searcher=searcher, score=metrics).run()
    beyond = "beyond the constraint macs <= 60"
    assert searcher.told == [
        (0, 1.0, None),
        (1, None, beyond),
        (2, 1.0, None),
        (3, 2.0, None),
        (4, 2.0, None),
    ]
    assert len(calls) == 2


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run_script(journal, seconds=0.0, prefix=(sys.executable,)):
    command = [*prefix, str(SCRIPT), str(journal), str(seconds)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def whole(module_path):
    """What an uninterrupted process finds."""
    return run_script(module_path / "journal.jsonl")


@pytest.mark.slow
def test_killed_study_resumes_to_the_same_end(whole, tmp_path):
    assert any(trial["error"] for trial in whole["trials"])
    journal = tmp_path / "killed.jsonl"
    command = [sys.executable, str(SCRIPT), str(journal), "0.05"]
    process = subprocess.Popen(command, env=environment(), cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and lines_in(journal) < 14:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 14 <= lines_in(journal) < 45
    assert run_script(journal) == whole


def lines_in(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("processes", marked([2, 3], release=[2]))
def test_processes_find_what_one_finds(whole, tmp_path, processes):
    prefix = (sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}")
    prefix += (f"--master-port={29629 + processes}",)
    assert run_script(tmp_path / "journal.jsonl", prefix=prefix) == whole
    assert len(records(tmp_path / "journal.jsonl")) == 1 + 4 + len(whole["trials"])


@pytest.mark.slow
def test_processes_end_together_where_one_breaks_down(whole, tmp_path):
    journal = tmp_path / "two.jsonl"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command = [*launcher, "--master-port=29633", str(SCRIPT), str(journal), "0.0", "1"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=60
    )
    assert done.returncode != 0
    assert "scoring trial 5 stopped the search: OSError: [Errno 5] Input/output" in done.stderr
    assert [line.get("trial") for line in records(journal)] == [None, None, 0, 1, 2, 3, 4]
    assert run_script(journal) == whole


def test_config_builds_a_study_and_checks_its_budget():
    space = small_space()
    config = SearchConfig(
        searcher=Partial(EvolutionSearcher, {"max_rounds": 2}), constraints={"macs": "50%"}
    )
    kwargs = {"space": space, "table": small_table(space), "score": lambda s: {"AP": 1.0}}
    study = build_study(config, **kwargs)
    assert study.run().cost["macs"] <= 47
    assert len(study.trials) == 100
    impossible = SearchConfig(constraints={"macs": 30})
    with pytest.raises(BudgetError, match="reachable are 31 to 94"):
        build_study(impossible, **kwargs)


def test_supernet_scores_refresh_the_statistics_of_the_path():
    space = shuffle_space()
    batches = [images(4), images(4) * 2]

    def evaluate(model):
        model.eval()
        with torch.no_grad():
            return {"AP": float(model(images()).float().var())}

    scorer = SupernetScore(space=space, evaluate=evaluate, batches=batches)
    rng = np.random.default_rng(0)
    subnets = [space.random(rng) for _ in range(2)]
    first = [scorer(subnet)["AP"] for subnet in subnets]
    # whatever was scored in between, a candidate scores the same
    assert [scorer(subnet)["AP"] for subnet in reversed(subnets)] == first[::-1]
    stale = SupernetScore(space=space, evaluate=evaluate)
    space.model.load_state_dict(shuffle_space().model.state_dict())
    assert stale(subnets[0])["AP"] != first[0]


def test_predictions_that_cannot_be_judged_are_the_candidates_own_fault():
    def evaluate(model):
        raise EvaluationError("boxes are NaN")

    space = shuffle_space()
    with pytest.raises(CandidateError, match="boxes are NaN"):
        SupernetScore(space=space, evaluate=evaluate)(space.random(np.random.default_rng(0)))


def test_whole_search_of_a_supernet():
    space = shuffle_space()
    table = CostTable.build(space, (64, 64))
    config = SearchConfig(
        searcher=Partial(RandomSearcher, {"max_trials": 4}),
        constraints={"macs": ["60%", "90%"]},
        metric="negative",
    )

    def evaluate(model):
        return {"negative": -model(images()).abs().mean().item()}

    scorer = SupernetScore(space=space, evaluate=evaluate, batches=[images()])
    best = build_study(config, space=space, table=table, score=scorer).run()
    largest = table.bounds()["macs"][1]
    assert 0.6 * largest <= best.cost["macs"] <= 0.9 * largest
