"""The range test: rates, smoothing, what is suggested, when it ends, what its steps are."""

import math

import pytest
import torch

from razorlite.core.errors import ConfigError
from razorlite.engine.config import TrainConfig
from razorlite.engine.optim import ParamOptions, ParamRule
from razorlite.engine.rate_test import RangeTest, growing, range_test
from razorlite.engine.steps import FunctionStep
from tests.engine.toys import sgd


class Line(torch.nn.Module):
    """One weight, whose loss is its square: SGD multiplies it by 1 - 2 lr each step."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0]))


def square(model, batch, backward):
    backward((model.weight**2).sum())
    return {}


def tried(model=None, **more):
    settings = TrainConfig(optimizer=sgd, max_steps=1, **more.pop("train", {}))
    return range_test(
        model=model or Line(),
        step=FunctionStep(square),
        loader=[[0]],
        config=settings,
        rates=growing(**{"lowest": 1e-4, "highest": 100.0, "steps": 61, **more}),
    )


def test_rates_grow_by_one_factor():
    assert growing(1e-3, 10.0, 41)[::10] == pytest.approx([1e-3, 1e-2, 1e-1, 1, 10])


@pytest.mark.parametrize("wrong", [(0, 1, 20), (1, 1, 20), (1e-3, 1, 9), (1, math.inf, 20)])
def test_wrong_rates_are_refused(wrong):
    with pytest.raises(ConfigError, match="at least 10 steps"):
        growing(*wrong)


def test_losses_are_those_of_plain_descent():
    found = tried()
    weight = 1.0
    for rate, loss in zip(found.rates, found.losses, strict=True):
        assert loss == pytest.approx(weight**2, rel=1e-4)
        weight *= 1 - 2 * rate


def test_a_square_diverges_above_one_and_is_best_below():
    found = tried()
    assert found.diverged
    assert 1 < found.rates[-1] < 100  # |1 - 2 lr| > 1 there
    assert found.suggestion < found.lowest < 2


def test_accumulation_leaves_the_loss_the_mean():
    assert tried(train={"accumulate": 3}).losses == pytest.approx(tried().losses)


def test_multipliers_of_parameters_stay():
    options = ParamOptions(patterns={"weight": ParamRule(lr_mult=0.1)})
    found = tried(train={"param_options": options}, lowest=1e-3, highest=1000.0)
    assert found.losses == pytest.approx(tried().losses, rel=1e-3)


def test_a_loss_that_is_not_finite_ends_it_and_is_left_out():
    def breaks(model, batch, backward):
        backward((model.weight * (math.nan if model.weight < 0.99 else 1.0)).sum())
        return {}

    settings = TrainConfig(optimizer=sgd, max_steps=1)
    rates = growing(1e-6, 1.0, 100)
    found = range_test(
        model=Line(), step=FunctionStep(breaks), loader=[[0]], config=settings, rates=rates
    )
    assert found.diverged
    assert all(map(math.isfinite, found.losses))
    assert len(found.losses) == len(found.rates) < 100


def test_smoothing_shifts_nothing():
    step = RangeTest(tuple(range(1, 22)), (*[1.0] * 10, 0.5, *[0.0] * 10))
    assert step.smoothed[10] == pytest.approx(0.5)
    assert step.suggestion == pytest.approx(11, abs=1)  # where it falls, not later


@pytest.mark.parametrize("last", [10.0, 1000.0])
def test_how_far_a_loss_runs_away_moves_nothing(last):
    falling = [2.0] * 10 + [2.0 - 0.2 * i for i in range(1, 6)]
    found = RangeTest(tuple(growing(1e-6, 1.0, 17)), (*falling, last, last), width=1.5)
    assert 9 <= found.rates.index(found.lowest) <= 14
    assert found.rates[9] < found.suggestion < found.rates[14]


def test_a_loss_that_only_rises_suggests_nothing():
    rising = RangeTest((1.0, 2.0, 3.0), (1.0, 2.0, 3.0))
    assert rising.suggestion is None
    assert rising.lowest is None
    assert RangeTest((), ()).suggestion is None
