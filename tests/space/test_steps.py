"""Supernet training steps and batch-norm recalibration."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as nn_functional
from torch import nn
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.space import SandwichStep, SinglePathStep, recalibrate
from razorlite.structures import Batch
from tests.space.supernets import images, shuffle_space


def batch():
    return Batch(images(), torch.tensor([1, 2]))


def test_path_depends_on_seed_and_step_alone():
    space = shuffle_space()
    one, two = SinglePathStep(space, seed=5), SinglePathStep(space, seed=5)
    for step in (0, 1, 2):
        one.begin(step)
    two.begin(2)
    assert one.path == two.path
    paths = set()
    for step in range(20):
        one.begin(step)
        paths.add(tuple(one.path.choices.values()))
    assert len(paths) == 20
    other = SinglePathStep(space, seed=6)
    other.begin(2)
    assert other.path != two.path


def test_single_path_step_equals_the_exported_models_step():
    space = shuffle_space()
    step = SinglePathStep(space, seed=1)
    step.begin(7)
    plain = space.export(step.path)
    metrics = step(space.model, batch(), lambda loss: loss.backward())
    loss = plain.loss(**{"images": batch().images, "labels": batch().targets})["loss_cls"]
    loss.backward()
    assert metrics["loss"] == loss.item()
    chosen = space.chosen_weights(
        dict(space.model.named_parameters(remove_duplicate=False)), step.path
    )
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter.grad, chosen[name].grad), name
    on_path = set(space.active_parameters())
    assert all(p.grad is None for p in space.model.parameters() if p not in on_path)


def test_sandwich_adds_up_largest_smallest_and_random():
    space = shuffle_space()
    rng = np.random.default_rng(9)
    ends = space.random(rng), space.random(rng)
    step = SandwichStep(space, ends=ends, seed=1, random_paths=1)
    step.begin(3)
    assert tuple(step.paths[:2]) == ends
    losses = []
    step(space.model, batch(), lambda loss: losses.append(loss.item()))
    expected = []
    for path in step.paths:
        space.select(path)
        expected.append(space.model.loss(batch().images, batch().targets)["loss_cls"].item())
    assert_close(losses, expected)
    assert len(losses) == 3


def test_the_smallest_path_draws_what_it_is_told_to():
    space = shuffle_space()
    rng = np.random.default_rng(9)
    ends = space.random(rng), space.random(rng)
    names = [d.name for d in space.dimensions]
    step = SandwichStep(space, ends=ends, random_paths=0, random_dimensions=[names[0]])
    drawn = set()
    for number in range(20):
        step.begin(number)
        largest, smallest = step.paths
        assert largest == ends[0]
        assert [smallest.choices[n] for n in names[1:]] == [ends[1].choices[n] for n in names[1:]]
        drawn.add(smallest.choices[names[0]])
    assert drawn == set(space.dimensions[0].values)
    with pytest.raises(ConfigError, match=f"no dimension matches .* did you mean '{names[0]}'"):
        SandwichStep(space, ends=ends, random_dimensions=[names[0] + "x"])


def test_recalibration_takes_the_mean_over_batches():
    # one norm on the images: statistics are the mean of the batches' means and variances
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5)).train()
    model[0].running_mean.fill_(9)
    batches = [torch.randn(4, 3, 5, 5) * 2 + 1 for _ in range(3)]
    assert recalibrate(model, batches) == 3
    assert_close(model[0].running_mean, torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0))
    assert_close(model[0].running_var, torch.stack([b.var((0, 2, 3)) for b in batches]).mean(0))
    assert model[0].momentum == 0.1
    assert model[0].training
    assert model[1].training


def test_recalibration_touches_the_active_path_alone_and_repeats():
    space = shuffle_space()
    space.model.eval()
    state = {n: v.clone() for n, v in space.model.state_dict().items()}
    subnet = space.random(np.random.default_rng(0))
    space.select(subnet)
    recalibrate(space.model, [images(), images(3)])
    after = space.model.state_dict()
    changed = {name for name in state if not torch.equal(state[name], after[name])}
    active = {f"backbone.{n}" for n, _ in space.export(subnet).backbone.named_buffers()}
    assert set(space.chosen_weights({n: n for n in changed}, subnet)) == active
    assert not any(m.training for m in space.model.modules())
    once = {n: v.clone() for n, v in after.items()}
    recalibrate(space.model, [images(), images(3)])
    assert all(torch.equal(once[n], v) for n, v in space.model.state_dict().items())


def test_no_batches_change_nothing():
    space = shuffle_space()
    state = {n: v.clone() for n, v in space.model.state_dict().items()}
    assert recalibrate(space.model, []) == 0
    assert all(torch.equal(state[n], v) for n, v in space.model.state_dict().items())


class Norms(nn.Module):
    """One norm of each kind, one after the other; `held` stays in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.held, self.frozen, self.plain = (nn.BatchNorm2d(3) for _ in range(3))
        self.biased, self.unused = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.cumulative = nn.BatchNorm2d(3, momentum=None)
        self.synchronised = nn.SyncBatchNorm(3)
        self.without = nn.BatchNorm2d(3, track_running_stats=False)
        self.group = nn.GroupNorm(1, 3)
        self.drop = nn.Dropout(0.5)
        for norm in (self.held, self.frozen, self.unused):
            norm.running_mean.fill_(5.0)
        self.frozen.requires_grad_(False)
        self.biased.weight.requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        self.held.eval()
        return self

    def forward(self, images):
        for name, module in self.named_children():
            images = images if name == "unused" else module(images)
        return images


def test_recalibration_leaves_what_training_leaves():
    model = Norms().train()
    modes = {name: module.training for name, module in model.named_modules()}
    rng = torch.get_rng_state()
    assert recalibrate(model, [images(4), images(4)]) == 2
    means = {n: b[0].item() for n, b in model.named_buffers() if n.endswith("running_mean")}
    stayed = {name.split(".")[0] for name, mean in means.items() if mean == 5.0}
    assert stayed == {"held", "frozen", "unused"}
    moved = {"plain", "biased", "cumulative", "synchronised"}
    counts = {n.split(".")[0]: int(b) for n, b in model.named_buffers() if "tracked" in n}
    assert {name for name, count in counts.items() if count == 2} == moved
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert model.cumulative.momentum is None
    assert model.plain.momentum == 0.1
    assert torch.equal(torch.get_rng_state(), rng)
    assert not model.synchronised._forward_hooks


def test_synchronised_norms_take_the_statistics_of_plain_ones():
    plain = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(plain))
    for model in (plain, synchronised):
        recalibrate(model, [images(2), images(3) * 2])
    for name, value in plain.state_dict().items():
        assert_close(synchronised.state_dict()[name], value)


def test_a_norm_that_runs_twice_takes_the_mean_of_both():
    norm = nn.BatchNorm2d(3)
    model = nn.Sequential(norm, nn.ReLU(), norm)
    recalibrate(model, [images(4)])
    first = nn_functional.batch_norm(images(4), None, None, training=True)
    means = [x.mean((0, 2, 3)) for x in (images(4), first.relu())]
    assert_close(norm.running_mean, torch.stack(means).mean(0))


def test_recalibration_that_fails_leaves_the_statistics():
    model = nn.Sequential(nn.BatchNorm2d(3))
    model[0].running_mean.fill_(7.0)
    with pytest.raises(ValueError, match="expected 4D"):
        recalibrate(model, [images(2), torch.zeros(2, 3)])
    assert model[0].running_mean.tolist() == [7.0] * 3
    assert model[0].momentum == 0.1
