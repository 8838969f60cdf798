"""Which paths the steps of a supernet train."""

import numpy as np
import pytest

from razorlite.core.errors import ConfigError
from razorlite.space import FairStep, ProgressiveStep, SearchSpace, WindowStep
from tests.space.supernets import shuffle_space


class Sum:
    """Costs that are the sum of a point's indices."""

    names = ("macs",)

    def __init__(self, space: SearchSpace) -> None:
        self.most = int((space.counts - 1).sum())

    def many(self, points):
        return {"macs": points.sum(axis=1)}

    def bounds(self):
        return {"macs": (0, self.most)}


@pytest.fixture(scope="module")
def space():
    return shuffle_space()


def ends(space):
    return space.decode(space.counts - 1), space.decode(0 * space.counts)


def test_fair_step_trains_every_value_once_a_batch(space):
    step, most = FairStep(space, seed=3), int(space.counts.max())
    for number in range(3):
        step.begin(number)
        points = np.stack([space.encode(path) for path in step.paths])
        for column, count in zip(points.T, space.counts, strict=True):
            assert np.bincount(column, minlength=count).max() <= -(-most // count)
            assert np.bincount(column, minlength=count).min() == most // count
    again = FairStep(space, seed=3)
    again.begin(2)
    assert again.paths == step.paths


def test_fair_step_runs_the_base_step_on_each_path_and_the_batch(space):
    seen = []

    def base(model, batch, backward):
        seen.append((space.selected, batch))
        return {"loss": float(len(seen))}

    step = FairStep(space, base_step=base)
    assert step(space.model, "batch", lambda loss: None) == {"loss": float(len(step.paths))}
    assert [path for path, _ in seen] == step.paths
    assert {batch for _, batch in seen} == {"batch"}


def test_window_step_trains_all_costs_alike(space):
    costs = Sum(space)
    step = WindowStep(space, costs=costs, ends=ends(space), width=0.1)
    drawn = []
    for number in range(200):
        step.begin(number)
        drawn.append(space.encode(step.path).sum() / costs.most)
    parts = np.histogram(drawn, bins=4, range=(0, 1))[0]
    assert parts.min() > 25  # uniform paths leave the first and the last quarter all but empty
    uniform = space.random_indices(np.random.default_rng(0), 200).sum(axis=1) / costs.most
    assert np.histogram(uniform, bins=4, range=(0, 1))[0].min() < 10


def test_window_step_names_the_costs(space):
    with pytest.raises(ConfigError, match="'latency' is none of the costs macs"):
        WindowStep(space, costs=Sum(space), ends=ends(space), kind="latency")


def test_progressive_step_opens_values_from_the_largest_path_on(space):
    step = ProgressiveStep(space, ends=ends(space), total_steps=100, until=0.5)
    far = {}
    for number in (0, 10, 20, 30, 49, 50, 99):
        step.begin(number)
        gaps = [space.counts - 1 - space.encode(step.path)]
        for seed in range(20):
            step.draw(np.random.default_rng(seed))
            gaps.append(space.counts - 1 - space.encode(step.path))
        far[number] = int(np.max(gaps))
    assert far[0] == 0  # the largest alone
    assert far[10] == 0
    assert far[20] == 1  # 0.4 of three further values
    assert far[49] == 2
    assert far[50] == far[99] == 3


def test_progressive_step_needs_the_length_of_the_training(space):
    with pytest.raises(ConfigError, match="needs a training of known length"):
        ProgressiveStep(space, ends=ends(space), total_steps=None)
