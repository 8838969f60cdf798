"""As many random candidates as a search had, scored alike, and what the search gains over them."""

import numpy as np
import pytest

from razorlite.recipes.random_control import gain_of, random_control
from razorlite.recipes.trust import Scored
from razorlite.search import Candidates, EvolutionSearcher, RandomSearcher, Study
from tests.search.contract import score, small_space, small_table

SPACE = small_space()
TABLE = small_table(SPACE)


def search(searcher):
    asked = []

    def counted(subnet):
        asked.append(tuple(subnet.choices.values()))
        return score(SPACE, subnet)

    study = Study(searcher=searcher, score=counted, metric="AP")
    study.run()
    return study, counted, asked


def evolved():
    candidates = Candidates(space=SPACE, table=TABLE, seed=1)
    settings = {"population_size": 6, "max_rounds": 4, "num_mutation": 3, "num_crossover": 2}
    return search(EvolutionSearcher(candidates=candidates, top_k=3, **settings))


def test_the_control_has_as_many_trials_and_starts_with_those_of_the_search(tmp_path):
    study, counted, asked = evolved()
    paid = len(asked)
    control = random_control(study, counted, tmp_path, None)
    assert len(control.trials) == len(study.trials) == 24
    first = [t.subnet.choices for t in study.trials[:6]]
    assert [t.subnet.choices for t in control.trials[:6]] == first
    assert len(set(asked)) == len(asked)  # nothing was scored twice
    assert len(asked) - paid <= 18
    again = random_control(study, counted, tmp_path, None)
    assert [t.values for t in again.trials] == [t.values for t in control.trials]
    assert len(asked) - paid <= 18


def test_a_random_search_is_its_own_control(tmp_path):
    candidates = Candidates(space=SPACE, table=TABLE)
    study, counted, _ = search(RandomSearcher(candidates=candidates, max_trials=4))
    assert random_control(study, counted, tmp_path, None) is None


@pytest.mark.parametrize(
    ("draws", "verdict"),
    [
        ([0.3, 0.4], "search is better than the best of 24"),
        ([-0.1, 0.4], "search is no better than"),
        ([-0.3, -0.1], "search is worse than"),
    ],
)
def test_the_gain_is_told_with_its_interval(tmp_path, draws, verdict):
    study, counted, _ = evolved()
    control = random_control(study, counted, tmp_path, None)
    best = Scored(study.best, np.array(draws))
    other = Scored(control.best, np.zeros(2))
    gain = gain_of(study, control, best, other)
    assert gain.to_dict()["gain"] == study.best.score - control.best.score
    assert verdict in str(gain)
    assert gain.to_dict()["evaluations"] == 24
    assert 0 <= gain.beaten <= gain.front
