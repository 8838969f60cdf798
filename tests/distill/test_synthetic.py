"""Distillation without images: the generator, its losses, and the turns of both."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.distill import (
    BeliefMismatch,
    ImageGenerator,
    NoiseLoader,
    TeacherConfidence,
    without_data,
)
from razorlite.distill import synthetic as synthetic_module


def classifier(width=4):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(width, 5),
    )  # fmt: skip


def taught(recipe="zskt", steps=20, **options):
    torch.manual_seed(1)
    student, teacher = classifier(), classifier(6)
    for weight in teacher.parameters():
        nn.init.normal_(weight, std=1.0)
    generator = {"type": "ImageGenerator", "shape": [8, 8], "latent": 3, "channels": [4]}
    options = {"total_steps": steps, "batch_size": 6, "generator": generator, **options}
    options["shape"] = (8, 8)
    return student, *without_data(recipe, student, teacher, **options)


def train(student, step, noise, optimizer, start=0, stop=20):
    noise.set_position(0, start)
    found = []
    for number, batch in zip(range(start, stop), noise, strict=False):
        step.begin(number)
        found.append(step(student, batch, torch.Tensor.backward))
        optimizer.step()
        optimizer.zero_grad()
    return found


def adam(student):
    return torch.optim.Adam(student.parameters(), lr=0.01)


def test_images_are_normalised_and_of_the_shape_that_is_asked_for():
    images = ImageGenerator(shape=(16, 24), latent=3, channels=[4, 2])(torch.randn(5, 3))
    assert images.shape == (5, 3, 16, 24)
    assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    assert_close(images.var((0, 2, 3), correction=0), torch.ones(3), atol=1e-2, rtol=0)
    with pytest.raises(ConfigError, match="no multiple of 4, as 2 doublings need"):
        ImageGenerator(shape=(16, 30))


def test_belief_mismatch_by_hand():
    ours, theirs = torch.randn(3, 4), torch.randn(3, 4)
    p, q = theirs.softmax(1), ours.softmax(1)
    expected = -sum(p[i, k] * (p[i, k] / q[i, k]).log() for i in range(3) for k in range(4)) / 12
    assert_close(BeliefMismatch().compare(ours, theirs, []), expected)
    assert BeliefMismatch().compare(ours, ours, []).abs() < 1e-7


def test_teacher_confidence_by_hand():
    logits, features = torch.randn(3, 4), torch.randn(3, 7)
    shares = logits.softmax(1)
    sure = -sum(max(row).log() for row in shares) / 3
    mean = shares.mean(0)
    alike = sum(m * m.log() for m in mean)
    loss = TeacherConfidence(features="4:input", one_hot=2.0, activation=3.0, entropy=5.0)
    expected = 2 * sure - 3 * features.abs().mean() + 5 * alike
    assert_close(loss.compare(None, logits, [features]), expected)


def test_the_generator_goes_where_the_two_disagree_and_moves_nothing_else():
    student, step, noise = taught()
    batch = next(iter(noise))
    images, before = step.images(batch.inputs), copy.deepcopy(step.generator.state_dict())
    teacher = copy.deepcopy(step.teacher.state_dict())
    loss = step.generator_loss(student, step.teacher, images)
    for _ in range(5):
        moved = step._move(student, batch.inputs)
    assert moved < loss
    assert any(not torch.equal(before[k], v) for k, v in step.generator.state_dict().items())
    assert all(torch.equal(teacher[k], v) for k, v in step.teacher.state_dict().items())
    assert all(p.grad is None for p in [*student.parameters(), *step.teacher.parameters()])


@pytest.mark.parametrize(("recipe", "moves"), [("zskt", 2), ("dafl", 20)])
def test_turns(recipe, moves, monkeypatch):
    student, step, noise = taught(recipe)
    lessons = []
    run, own = step.base_step.distiller._runs[0]
    monkeypatch.setattr(
        step.base_step.distiller,
        "_runs",
        [(lambda images: lessons.append(images) or run(images), own)],
    )
    found = train(student, step, noise, adam(student))
    assert sum("generator_loss" in metrics for metrics in found) == moves
    assert len(lessons) == moves  # the teacher looks at the same images once
    assert found[-1]["distill_output"] < found[0]["distill_output"]


@pytest.mark.parametrize("half", [10, 13])
def test_a_resumed_run_is_the_same_to_the_bit(half):
    student, step, noise = taught()
    optimizer = adam(student)
    train(student, step, noise, optimizer, stop=half)
    state = copy.deepcopy((student.state_dict(), optimizer.state_dict(), step.state_dict()))
    train(student, step, noise, optimizer, half)
    again, other, noise = taught(seed=0)
    optimizer = adam(again)
    for part, saved in zip((again, optimizer, other), state, strict=True):
        part.load_state_dict(saved)
    train(again, other, noise, optimizer, half)
    ours, theirs = ({**m.state_dict()} for m in (student, again))
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    ours, theirs = (s.generator.state_dict() for s in (step, other))
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_a_state_of_another_generator_is_refused():
    _, step, _ = taught()
    with pytest.raises(CheckpointError, match=r"generator is not that of distiller\.synthetic"):
        step.load_state_dict({})


def test_noise_of_two_processes_is_that_of_one(monkeypatch):
    def batches(size, rank=0, world=1, **more):
        monkeypatch.setattr(synthetic_module.distributed, "rank", lambda: rank)
        monkeypatch.setattr(synthetic_module.distributed, "world_size", lambda: world)
        loader = NoiseLoader(latent=3, batch_size=size, length=4, **more)
        return [batch.inputs for batch in loader]

    whole = batches(4)
    parts = [batches(2, rank, 2) for rank in (0, 1)]
    for joined, *own in zip(whole, *parts, strict=True):
        assert torch.equal(joined, torch.stack(own, 1).flatten(0, 1))
    assert not torch.equal(whole[0], whole[1])
    pairs = batches(4, repeats=2)
    assert torch.equal(pairs[0], pairs[1])
    assert torch.equal(pairs[2], whole[1])


def test_a_recipe_that_makes_no_images_is_refused():
    with pytest.raises(ConfigError, match="makes no images; zskt and dafl do"):
        taught("kd")
