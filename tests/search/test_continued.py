"""A search that goes on from the trials of one before."""

import pytest

from razorlite.core.journal import Journal
from razorlite.search import (
    AgeingEvolutionSearcher,
    ContinuedSearcher,
    EvolutionSearcher,
    ExhaustiveSearcher,
    LocalSearcher,
    NSGA2Searcher,
    PredictorSearcher,
    Study,
    continued,
)
from tests.search.contract import candidates, score, scored, small_space

SPACE = small_space()
POINTS = [[1, 1, 1, 1, 1, 0], [0] * 6, [2] * 6]
BUDGET = {"macs": 60}  # all c costs 94
SEARCHERS = [
    (EvolutionSearcher, {"population_size": 4, "num_mutation": 2, "num_crossover": 1}),
    (AgeingEvolutionSearcher, {"population_size": 4, "sample_size": 2}),
    (LocalSearcher, {}),
    (NSGA2Searcher, {"population_size": 4}),
    (PredictorSearcher, {}),
]


def search(kind, settings, path, stop=None):
    base = kind(candidates=candidates(constraint=BUDGET), **settings)
    points = candidates().stacked(POINTS)
    searcher = continued(base, scored(SPACE, points))
    asked = iter(range(100))

    def scored_once(subnet):
        if next(asked) == stop:
            raise KeyboardInterrupt
        return score(SPACE, subnet)

    return Study(searcher=searcher, score=scored_once, journal=path, max_trials=9)


@pytest.mark.parametrize(("kind", "settings"), SEARCHERS)
def test_known_points_come_first_and_resuming_is_exact(kind, settings, tmp_path):
    whole = search(kind, settings, tmp_path / "whole.jsonl")
    whole.run()
    first = [SPACE.encode(trial.subnet).tolist() for trial in whole.trials[:2]]
    assert first == POINTS[:2]  # the third is beyond the budget
    with pytest.raises(KeyboardInterrupt):
        search(kind, settings, tmp_path / "cut.jsonl", stop=4).run()
    search(kind, settings, tmp_path / "cut.jsonl").run(resume=True)
    lines = [
        [{**line, "seconds": 0} for line in Journal(tmp_path / name).read()]
        for name in ("whole.jsonl", "cut.jsonl")
    ]
    assert lines[0] == lines[1]


def test_who_sees_all_points_anyway_is_left_as_it_is():
    base = ExhaustiveSearcher(candidates=candidates())
    trials = scored(SPACE, candidates().stacked(POINTS))
    assert continued(base, trials) is base
    learning = EvolutionSearcher(candidates=candidates(constraint={"macs": 40}))
    assert isinstance(continued(learning, trials), ContinuedSearcher)
    assert continued(learning, []) is learning


@pytest.mark.parametrize("kind", [NSGA2Searcher, PredictorSearcher, LocalSearcher])
def test_known_points_are_none_of_a_searchers_own_trials(kind):
    known = scored(SPACE, candidates().stacked(POINTS))
    base = kind(candidates=candidates(), max_trials=8)
    study = Study(searcher=continued(base, known), score=lambda subnet: score(SPACE, subnet))
    study.run()
    assert study.searcher.name == kind.__name__
    assert len(study.trials) == len(POINTS) + 8
