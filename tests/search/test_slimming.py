"""A study of greedy slimming: what is on the way, what wins, and resuming."""

import numpy as np
import pytest

from razorlite.search import GreedySlimming, SearchError, Study
from tests.search.contract import candidates


def wide_is_best(found):
    """Higher with every place that is wider."""
    return lambda subnet: {"AP": float(found.space.encode(subnet).sum())}


def study(journal=None, constraint=None, **settings):
    found = candidates(places=4, constraint=constraint or {"macs": 40})
    searcher = GreedySlimming(candidates=found, **settings)
    score = wide_is_best(found)
    return Study(searcher=searcher, score=score, metric="AP", journal=journal)


def test_trials_on_the_way_are_scored_and_never_win():
    # 10 + 4 + 8 + 12 + 16 = 50: those above 40 score higher
    done = study()
    best = done.run()
    assert best.cost["macs"] <= 40
    assert done.trials[0].cost["macs"] == 50
    assert done.trials[0].score > best.score
    assert all(trial.error is None for trial in done.trials)
    assert all(trial.cost["macs"] <= 40 for trial in done.front)
    assert best.score == max(t.score for t in done.trials if t.cost["macs"] <= 40)


def test_a_search_that_stops_on_the_way_has_no_result():
    done = study()
    done.max_trials = 3
    with pytest.raises(SearchError, match=r"without a scored candidate that meets macs <= 40"):
        done.run()


@pytest.mark.parametrize("settings", [{}, {"per": "macs", "at_once": 2}])
def test_resumed_equals_uninterrupted(tmp_path, settings):
    whole = study(tmp_path / "whole.jsonl", **settings)
    whole.run()
    cut = tmp_path / "cut.jsonl"
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    for kept in range(2, len(lines)):
        cut.write_text("".join(lines[:kept]))
        again = study(cut, **settings)
        again.run(resume=True)
        ours, theirs = ([dict(t.subnet.choices) for t in s.trials] for s in (again, whole))
        assert ours == theirs
    assert np.array_equal(again.searcher.ask(), np.zeros((0, 4)))
