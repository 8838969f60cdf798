"""When a teacher teaches: spans of a run, and the weight over its steps."""

import pytest

from razorlite.core.config import build, load
from razorlite.core.errors import ConfigError
from razorlite.distill import DistillerConfig, Length
from razorlite.distill.spans import Weighting

PAIRS = [{"student": "neck", "loss": {"type": "PKD"}}]


def read(**spans):
    return build(load({"teacher": "largest_path", "pairs": PAIRS, **spans}), DistillerConfig)


def test_spans_are_steps_epochs_or_shares():
    settings = read(
        start_step="2 epochs", stop_step="80%", warmup_steps=5, cooldown_steps="0.5 epochs"
    )
    assert settings.steps(Length(200, 12.5)) == {
        "start_step": 25,
        "stop_step": 160,
        "warmup_steps": 5,
        "cooldown_steps": 6,
    }
    unknown = settings.steps(Length())
    assert unknown == {"start_step": 0, "stop_step": None, "warmup_steps": 5, "cooldown_steps": 0}


@pytest.mark.parametrize(
    "spans",
    [
        {"start_step": "120%"},
        {"stop_step": "3 weeks"},
        {"stop_step": -1},
        {"warmup_steps": "epochs"},
        {"cooldown_steps": "10"},
    ],
)
def test_other_spans_are_refused(spans):
    [name] = spans
    with pytest.raises(ConfigError, match=rf"{name}: .*such as '3 epochs'"):
        read(**spans)


def test_the_weight_is_a_trapezium():
    weighting = Weighting(start=2, stop=10, warmup=2, cooldown=4, total=20)
    expected = [0, 0, 0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0]
    assert [weighting.at(step) for step in range(12)] == expected
    to_the_end = Weighting(cooldown=2, total=4)
    assert [to_the_end.at(step) for step in range(4)] == [1, 1, 1, 0.5]


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ({"start": 5, "stop": 5}, "stop_step 5 must come after start_step 5"),
        ({"cooldown": 5}, "need a stop_step"),
        ({"warmup": 6, "cooldown": 5, "stop": 10}, "more than the 10 steps"),
        ({"start": 8, "cooldown": 5, "total": 10}, "more than the 2 steps"),
    ],
)
def test_contradictions_are_refused(spans, message):
    with pytest.raises(ConfigError, match=message):
        Weighting(**spans)
