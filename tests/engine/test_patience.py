"""Stopping once evaluations do not get better."""

import pytest

from razorlite.core.errors import ConfigError
from razorlite.engine.checkpoint import read_checkpoint
from tests.engine.toys import make_runner


class Scores:
    """Gives one score after the other."""

    def __init__(self, *scores):
        self.scores = list(scores)

    def __call__(self, model):
        return {"AP": self.scores.pop(0)}


class Tables(Scores):
    """Gives one table of scores after the other."""

    def __call__(self, model):
        return self.scores.pop(0)


def runner(folder, scores, **more):
    settings = {"max_steps": 20, "eval_every": 2, "patience": 2, **more}
    return make_runner(folder, evaluate=scores, **settings)


@pytest.mark.parametrize(
    ("scores", "steps", "best"),
    [
        ((0.1, 0.3, 0.2, 0.3), 8, 0.3),  # an equal one is not better
        ((0.5, 0.4, 0.6, 0.1, 0.2), 10, 0.6),  # a better one begins the count anew
        ((float("nan"), float("nan")), 4, None),
    ],
)
def test_stops_after_so_many_evaluations(tmp_path, scores, steps, best):
    one = runner(tmp_path, Scores(*scores))
    one.run()
    assert one.state.step_number == steps
    assert one.state.best == best


def test_without_patience_all_steps_are_done(tmp_path):
    one = runner(tmp_path, Scores(*[0.5] * 10), patience=None)
    one.run()
    assert one.state.step_number == 20


def test_a_resumed_run_goes_on_counting(tmp_path):
    """One evaluation was in vain before; one more ends the run. Ended, it does nothing more."""
    runner(tmp_path, Scores(0.5, 0.4), max_steps=4).run()
    one = runner(tmp_path, Scores(0.3))
    one.run(resume=True)
    assert one.state.step_number == 6
    again = runner(tmp_path, Scores())
    again.run(resume=True)
    assert again.state.step_number == 6


def test_patience_needs_evaluations(tmp_path):
    with pytest.raises(ConfigError, match=r"set train\.eval_every as well"):
        runner(tmp_path, Scores(), eval_every=None)


def test_a_resumed_run_that_goes_by_another_metric_looks_for_the_best_anew(tmp_path, caplog):
    first = Tables({"a": 0.9, "b": 0.1})
    runner(tmp_path, first, best_metric="a", max_steps=2).run()
    then = Tables({"a": 0.8, "b": 0.5}, {"a": 0.8, "b": 0.4})
    one = runner(tmp_path, then, best_metric="b", max_steps=6)
    one.run(resume=True)
    assert (one.state.best, one.state.step_number) == (0.5, 6)
    assert read_checkpoint(tmp_path / "checkpoints/best.pt")["meta"]["step"] == 4
    assert "best.pt is the best by a; from here on b counts" in caplog.text
