"""Learning-rate factors against numbers by hand."""

import pytest

from razorlite.core.errors import ConfigError
from razorlite.engine.schedules import Constant, Cosine, FlatCosine, MultiStep, OneCycle, Poly


def factors(schedule, steps, total, epoch_steps=1):
    return [schedule.factor(step, total, epoch_steps) for step in steps]


def test_warmup_is_a_line():
    schedule = Constant(warmup_steps=4, warmup_factor=0.2)
    expected = [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    assert factors(schedule, range(6), 100) == pytest.approx(expected)


def test_constant_without_warmup_is_one():
    assert factors(Constant(), [0, 1, 99], 100) == [1.0, 1.0, 1.0]


def test_cosine():
    # cos of 0, 60, 90 and 180 degrees: 1, 1/2, 0, -1
    assert factors(Cosine(), [0, 4, 6, 12], 12) == pytest.approx([1.0, 0.75, 0.5, 0.0])
    raised = Cosine(min_factor=0.2)
    assert factors(raised, [0, 4, 6, 12], 12) == pytest.approx([1.0, 0.8, 0.6, 0.2])


def test_cosine_starts_where_the_warmup_ends():
    schedule = Cosine(warmup_steps=2, warmup_factor=0.5)
    # 0.5 at step 0, 0.75 at step 1; then 12 steps of cosine
    assert factors(schedule, [0, 1, 2, 6, 8], 14) == pytest.approx([0.5, 0.75, 1, 0.75, 0.5])


def test_flat_cosine():
    schedule = FlatCosine(flat=0.5, min_factor=0.1)
    expected = [1.0, 1.0, 1.0, 0.55, 0.1]
    assert factors(schedule, [0, 9, 10, 15, 20], 20) == pytest.approx(expected)


def test_flat_cosine_waits_for_a_long_warmup():
    schedule = FlatCosine(flat=0.1, min_factor=0.0, warmup_steps=10, warmup_factor=0.0)
    assert factors(schedule, [5, 10, 15], 20) == pytest.approx([0.5, 1.0, 0.5])


def test_poly():
    assert factors(Poly(), [0, 5, 10], 10) == pytest.approx([1.0, 0.5, 0.0])
    squared = Poly(power=2.0, min_factor=0.1)
    assert factors(squared, [0, 5, 10], 10) == pytest.approx([1.0, 0.1 + 0.9 / 4, 0.1])


def test_milestones_in_epochs_and_steps():
    epochs = MultiStep(milestones=(2, 3))
    assert factors(epochs, [0, 19, 20, 29, 30], 40, epoch_steps=10) == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01]
    )
    steps = MultiStep(milestones=(2, 3), gamma=0.5, unit="step")
    assert factors(steps, [1, 2, 3], 40, epoch_steps=10) == pytest.approx([1, 0.5, 0.25])


def test_milestones_where_an_epoch_is_no_whole_number_of_steps():
    # 5 batches, 2 a step: two epochs are 5 steps
    assert factors(MultiStep(milestones=(2,)), [4, 5], 10, 2.5) == pytest.approx([1, 0.1])


def test_one_cycle_rises_and_falls():
    schedule = OneCycle(rise=0.5, start_factor=0.2, min_factor=0.0)
    expected = [0.2, 0.6, 1.0, 0.5, 0.0]
    assert factors(schedule, [0, 5, 10, 15, 20], 20) == pytest.approx(expected)


@pytest.mark.parametrize("kind", [Constant, Cosine, FlatCosine, Poly, OneCycle])
@pytest.mark.parametrize("total", [1, 2, 7])
def test_factors_of_short_runs_lie_between_0_and_1(kind, total):
    assert all(0 <= kind().factor(step, total) <= 1 for step in range(total + 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(warmup_steps=-1), "warmup_steps wants a number of at least 0, got -1"),
        (
            lambda: Constant(warmup_factor=2.0),
            "warmup_factor wants a number of at least 0 and at most 1, got 2",
        ),
        (lambda: FlatCosine(flat=1.0), "flat wants a number of at least 0 and below 1, got 1"),
        (
            lambda: MultiStep(milestones=(3, 2)),
            r"milestones wants a value that rises, got \(3, 2\)",
        ),
        (lambda: OneCycle(rise=0.0), "rise wants a number above 0 and below 1, got 0"),
    ],
)
def test_wrong_settings(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
