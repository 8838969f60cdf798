"""Elastic scoring: a batch on a few images, the better part of it on all."""

import itertools
import json
import logging

import pytest

from razorlite.core.errors import ConfigError, RunFolderError
from razorlite.core.journal import Journal
from razorlite.search import (
    CandidateError,
    Elastic,
    ElasticConfig,
    ElasticResult,
    EvolutionSearcher,
    NSGA2Searcher,
    PredictorSearcher,
    RandomSearcher,
    SearchError,
    Study,
)
from razorlite.search.elastic import kendall_tau
from razorlite.search.workers import Outcome, ProcessWorkers
from tests.search.contract import candidates, score
from tests.search.test_study import outcome


def searchers(found):
    return {
        "evolution": lambda: EvolutionSearcher(
            candidates=found, population_size=6, num_mutation=2, num_crossover=2, max_rounds=3
        ),
        "predictor": lambda: PredictorSearcher(
            candidates=found, max_trials=24, initial=8, batch_size=8
        ),
        "nsga2": lambda: NSGA2Searcher(candidates=found, max_trials=18, population_size=6),
    }


def make_study(journal=None, kind="evolution", share=0.2, keep=0.3, stop=None, **settings):
    """Return a study, and the calls of its score on the first and on all images.

    First scores are coarser than final ones. The call of number `stop` breaks down.
    """
    found, calls, count = candidates(seed=5), {"first": [], "all": []}, itertools.count()

    def counted(name, step):
        def metrics(subnet):
            if next(count) == stop:
                raise OSError(5, "Input/output error")
            calls[name].append(found.space.encode(subnet).tolist())
            return {"AP": 100 + score(found.space, subnet) // step}

        return metrics

    elastic = Elastic(
        config=ElasticConfig(share=share, keep=keep),
        score=counted("first", 2),
        first_images=20,
        images=100,
    )
    study = Study(
        searcher=searchers(found)[kind](),
        score=counted("all", 1),
        journal=journal,
        elastic=elastic,
        **{"metric": "AP", **settings},
    )
    return study, calls


def records(path):
    lines = Journal(path).read()
    return [{**line, "seconds": 0} if "score" in line else line for line in lines]


def test_the_better_part_of_each_batch_is_scored_on_all_images():
    study, calls = make_study()
    best = study.run()
    assert len(calls["first"]) == 18
    assert len(calls["all"]) == 6  # 0.3 of 6 is 1.8: two of each batch
    for begin in (0, 6, 12):
        batch = study.trials[begin : begin + 6]
        promoted = [t for t in batch if t.promoted]
        assert len(promoted) == 2
        worst = min(t.first_values for t in promoted)
        assert all(t.first_values <= worst for t in batch if not t.promoted)
    assert best.promoted
    assert all(t.promoted for t in study.front)
    for trial in study.trials:
        assert trial.images == (100 if trial.promoted else 20)
        assert bool(trial.values) == bool(trial.scores) == trial.promoted
        assert trial.error is None


def test_first_scores_never_win():
    """On the first images all look far better than on all."""
    study, _ = make_study()
    object.__setattr__(study._first._evaluator.attempt, "first", lambda s: {"AP": 1e6})
    best = study.run()
    assert best.score < 1000
    assert best.scores == {"AP": best.score}
    assert max(t.score for t in study.trials if t.score is not None) == best.score


def test_a_searcher_learns_from_the_promoted_alone():
    study, _ = make_study(kind="predictor")
    study.run()
    assert [t.number for t in study.searcher.history] == [
        t.number for t in study.trials if t.promoted
    ]
    assert study.searcher.told == 24


def test_the_journal_says_on_how_many_images_each_was_scored(tmp_path):
    path = tmp_path / "journal.jsonl"
    make_study(path)[0].run()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["elastic"] == {"share": 0.2, "keep": 0.3, "first_images": 20, "images": 100}
    assert [line["first"] for line in lines[2:8]] == list(range(6))
    assert {line["on_images"] for line in lines[2:8]} == {20}
    assert [line["trial"] for line in lines[8:14]] == list(range(6))
    for first, trial in zip(lines[2:8], lines[8:14], strict=True):
        assert trial["first_values"] == [first["score"]]
        assert trial["images"] == (100 if trial["promoted"] else 20)
        assert (trial["score"] is not None) == trial["promoted"]


@pytest.mark.parametrize("kind", ["evolution", "predictor", "nsga2"])
def test_a_resumed_search_equals_the_uninterrupted_one(tmp_path, kind):
    path = tmp_path / "whole.jsonl"
    whole, calls = make_study(path, kind)
    whole.run()
    lines = path.read_text().splitlines(keepends=True)
    cuts = (1, 2, 3, 8, 9, 13, 14, 17, 30) if kind == "evolution" else (3, 12, len(lines) - 2)
    for kept in cuts:
        part = tmp_path / f"{kept}.jsonl"
        part.write_text("".join(lines[:kept]) + '{"tri')
        study, again = make_study(part, kind)
        study.run(resume=True)
        assert outcome(study) == outcome(whole)
        assert records(part) == records(path)
        known = [json.loads(line) for line in lines[:kept]]
        firsts = sum("first" in line for line in known) if kept > 1 else 0
        assert len(again["first"]) == len(calls["first"]) - firsts


@pytest.mark.parametrize("at", range(0, 24, 5))
def test_what_breaks_down_is_scored_again(tmp_path, at):
    make_study(tmp_path / "whole.jsonl")[0].run()
    path = tmp_path / "broken.jsonl"
    with pytest.raises(SearchError, match="Input/output error"):
        make_study(path, stop=at)[0].run()
    make_study(path)[0].run(resume=True)
    assert records(path) == records(tmp_path / "whole.jsonl")


@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_number_of_workers_changes_nothing(tmp_path, size):
    class Several(ProcessWorkers):
        def run(self, score, candidates):
            return {n: score(s) for n, s in reversed(list(candidates.items()))}

    Several.size = size
    make_study(tmp_path / "one.jsonl")[0].run()
    make_study(tmp_path / "several.jsonl", workers=Several())[0].run()
    assert records(tmp_path / "several.jsonl") == records(tmp_path / "one.jsonl")


def test_max_trials_may_be_raised_within_a_batch(tmp_path):
    path = tmp_path / "part.jsonl"
    make_study(path, max_trials=8)[0].run()
    make_study(path)[0].run(resume=True)
    make_study(tmp_path / "whole.jsonl")[0].run()
    assert records(path) == records(tmp_path / "whole.jsonl")


def test_failures_on_the_first_images_are_the_candidates_own(tmp_path):
    path = tmp_path / "journal.jsonl"
    study, calls = make_study(path)

    def first(subnet):
        if len(calls["first"]) % 2:
            calls["first"].append(None)
            raise CandidateError("too narrow")
        return study.elastic.score(subnet)

    object.__setattr__(study._first._evaluator.attempt, "first", first)
    study.run()
    failed = [t for t in study.trials if t.error == "too narrow"]
    assert failed
    assert not any(t.promoted or t.values for t in failed)
    again, calls = make_study(path)
    again.run(resume=True)
    assert outcome(again) == outcome(study)
    assert calls == {"first": [], "all": []}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda r: {**r, "promoted": not r["promoted"]}, "promoted is (True|False) by the first"),
        (lambda r: {**r, "first_values": [1.0]}, "first_values is"),
        (lambda r: {**r, "score": 7.0, "scores": {"AP": 7.0}}, "the candidate is not promoted"),
        (lambda r: {k: v for k, v in r.items() if k != "images"}, "a trial lacks images"),
    ],
)
def test_a_journal_that_contradicts_the_first_scores_is_refused(tmp_path, edit, message):
    path = tmp_path / "journal.jsonl"
    make_study(path)[0].run()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    at = next(i for i, r in enumerate(lines) if r.get("promoted") is False)
    lines[at] = edit(lines[at])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(RunFolderError, match=rf"journal.jsonl:{at + 1}: {message}"):
        make_study(path)[0].run(resume=True)


def test_a_search_with_other_shares_is_another_one(tmp_path):
    path = tmp_path / "journal.jsonl"
    make_study(path)[0].run()
    with pytest.raises(RunFolderError, match=r"elastic\.keep was 0\.3, now 0\.5"):
        make_study(path, keep=0.5)[0].run(resume=True)


def test_batches_of_one_are_refused_with_the_size_that_is_needed():
    searcher = PredictorSearcher(candidates=candidates())
    with pytest.raises(ConfigError, match=r"keep 0\.3 of the 1 candidates .* propose 2 or more"):
        ElasticConfig().check(searcher)
    ElasticConfig().check(RandomSearcher(candidates=candidates()))


@pytest.mark.parametrize("wrong", [{"share": 0.0}, {"share": 1.0}, {"keep": 1.5}])
def test_shares_lie_between_0_and_1(wrong):
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        ElasticConfig(**wrong)


def test_tau_counts_pairs():
    # of 6 pairs 5 are in order and 1 is not
    assert kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
    # a tie on one side: 2 of 3 pairs, over sqrt(2 * 3)
    assert kendall_tau([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / 6**0.5)
    assert kendall_tau([1, 1], [1, 2]) is None
    assert kendall_tau() is None


def test_the_result_counts_what_was_saved():
    study, _ = make_study()
    study.run()
    result = ElasticResult.of(study.trials, study.elastic)
    assert (result.candidates, result.promoted) == (18, 6)
    assert result.images == pytest.approx(20 / 100 + 6 / 18)
    assert "6 of 18 candidates" in str(result)
    assert "67% of the full evaluations were saved" in str(result)


def test_idle_workers_are_told_in_a_line(caplog):
    class Many(ProcessWorkers):
        size = 9

        def run(self, score, candidates):
            return {n: Outcome(metrics={"AP": 1.0}) for n in candidates}

    with caplog.at_level(logging.WARNING, logger="razorlite"):
        make_study(workers=Many())[0].run()
    lines = [r.getMessage() for r in caplog.records if "idle" in r.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith("9 workers share the 6 candidates that EvolutionSearcher proposes")
