"""How many images a step takes: what doubling ends at, and what a trial measures."""

import itertools

import pytest
import torch

from razorlite.engine import batch_size as module
from razorlite.engine.batch_size import BatchTrial, TriedBatch, doubling, free_mb
from tests.engine.toys import make_runner


def tried(rates=(), memory=()):
    """Return an attempt that gives rates and shares of memory in turn, and the sizes it got."""
    sizes = []
    given = itertools.zip_longest(rates, memory, fillvalue=0.0)

    def attempt(images):
        sizes.append(images)
        found = next(given, None)
        return None if found is None else TriedBatch(images, *found)

    return attempt, sizes


def chosen(images=1000, by_rate=True, **given):
    attempt, sizes = tried(**given)
    found = doubling(attempt, images, by_rate=by_rate)
    return found[-1].images if found else None, sizes


def test_a_processor_ends_where_twice_the_images_are_not_faster():
    assert chosen(rates=(10, 15, 15.7, 99)) == (4, [2, 4, 8])  # 15.7 < 1.05 x 15


def test_a_gpu_goes_on_while_they_fit():
    # 0.1 more for twice the images: 8 take 0.4, 16 would take 0.8, 32 take 1.6
    assert chosen(by_rate=False, memory=(0.1, 0.2, 0.4, 0.8)) == (16, [2, 4, 8, 16])
    assert chosen(by_rate=False, memory=(0.1, 0.2, 0.5)) == (8, [2, 4, 8])  # 0.5 + 2 x 0.3 > 0.8


def test_a_batch_that_does_not_fit_is_not_taken():
    assert chosen(by_rate=False, rates=(1, 1), memory=(0.01, 0.01)) == (4, [2, 4, 8])
    assert chosen(by_rate=False, memory=(0.3, 0.81)) == (2, [2, 4])
    assert chosen(by_rate=False, memory=(0.81,)) == (None, [2])


@pytest.mark.parametrize(("images", "most"), [(1, 1), (3, 2), (9, 8), (5000, 1024)])
def test_there_are_not_more_images_than_there_are(images, most):
    rates = [2.0**n for n in range(12)]
    assert chosen(images, rates=rates)[0] == most


def trial_of(step, monkeypatch, folder):
    runner = make_runner(folder)
    monkeypatch.setattr(module, "free_mb", lambda device: 100.0)
    used = iter((50.0, 90.0))
    monkeypatch.setattr(module, "memory_mb", lambda device: next(used))
    update = runner.state.update
    batches = lambda images: iter([range(images)])  # noqa: E731
    return BatchTrial(runner.state.model, step, update, batches), runner.state.model


def test_a_trial_moves_no_weight_and_measures_what_it_takes(monkeypatch, tmp_path):
    def step(model, batch, backward):
        backward(sum(p.sum() for p in model.parameters()) * len(batch))
        return {}

    step.begin = lambda number: None
    trial, model = trial_of(step, monkeypatch, tmp_path)
    before = [p.clone() for p in model.parameters()]
    found = trial(4)
    assert found.images == 4
    assert found.memory == pytest.approx(0.4)  # 40 of 100 MiB
    assert found.rate > 0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    "error", [torch.cuda.OutOfMemoryError("x"), RuntimeError("can't allocate memory: 9 bytes")]
)
def test_no_memory_is_no_failure(error, monkeypatch, tmp_path):
    def step(model, batch, backward):
        raise error

    step.begin = lambda number: None
    assert trial_of(step, monkeypatch, tmp_path)[0](4) is None


def test_other_failures_are_told(monkeypatch, tmp_path):
    def step(model, batch, backward):
        raise RuntimeError("sizes differ")

    step.begin = lambda number: None
    with pytest.raises(RuntimeError, match="sizes differ"):
        trial_of(step, monkeypatch, tmp_path)[0](4)


def test_free_memory_is_of_this_machine():
    assert 10 < free_mb(torch.device("cpu")) < 1e8


def test_a_containers_limit_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_GROUP", tmp_path)
    assert module._group_mb() == float("inf")
    (tmp_path / "memory.max").write_text("3145728\n")
    (tmp_path / "memory.current").write_text("1048576\n")
    assert module._group_mb() == 2.0
    (tmp_path / "memory.max").write_text("max\n")
    assert module._group_mb() == float("inf")
