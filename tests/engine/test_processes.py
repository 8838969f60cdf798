"""Two processes: joined gradients, equal weights and averages, stopping and failing together."""

import itertools
import multiprocessing
import os
import signal
import traceback
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from razorlite.core.distributed import world_size
from razorlite.core.errors import CheckpointError, RunFolderError, TrainingError
from razorlite.core.journal import Journal
from razorlite.engine import runner as runner_module
from razorlite.engine.checkpoint import read_checkpoint
from razorlite.engine.ema import EmaConfig
from razorlite.engine.exchange import agree, average_gradients, average_tensors
from razorlite.engine.hooks import Hook
from razorlite.engine.interrupt import Interrupted
from razorlite.engine.ranks import check_processes
from razorlite.engine.run_folder import on_main, told_by_main
from razorlite.engine.steps import plain_step
from razorlite.structures import Batch
from tests.engine.toys import Toy, ToyLoader, assert_same, make_runner, sgd, weights

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["tests.engine.test_processes", "razorlite.recipes.side_by_side", "torch._dynamo"]
)


def both(work, folder, *arguments):
    """Return what `work(rank, folder, *arguments)` returns on two processes of one group."""
    queue = _SERVER.Queue()
    folder.mkdir(exist_ok=True)
    members = [
        _SERVER.Process(target=_member, args=(rank, queue, work, folder, arguments))
        for rank in (0, 1)
    ]
    for member in members:
        member.start()
    found = dict(queue.get(timeout=60) for _ in members)
    for member in members:
        member.join(timeout=60)
    assert not [text for text in found.values() if isinstance(text, str)], found
    return [found[0][0], found[1][0]]


def _member(rank, queue, work, folder, arguments):
    torch.set_num_threads(1)
    store = f"file://{folder / f'store-{work.__name__}'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    try:
        queue.put((rank, [_plain(work(rank, folder, *arguments))]))
        dist.barrier()
    except BaseException:
        queue.put((rank, traceback.format_exc()))
    dist.destroy_process_group()


def _plain(result):
    """Tensors travel as lists: nothing is shared with a process that ends."""
    if isinstance(result, dict):
        return {key: _plain(value) for key, value in result.items()}
    return result.tolist() if isinstance(result, torch.Tensor) else result


class Shard(ToyLoader):
    """Every second item of the batches."""

    def __init__(self, rank):
        super().__init__()
        self.rank, self.batch_size = rank, self.size // 2

    def batch(self, epoch, index):
        whole = super().batch(epoch, index)
        return Batch(whole.images[self.rank :: 2], whole.targets[self.rank :: 2])

    def __iter__(self):
        epoch, start = self.position
        for index in range(start, self.batches):
            yield self.batch(epoch, index)


SETTINGS = {
    "optimizer": sgd,
    "ema": EmaConfig(decay=0.5, warmup_steps=0),
    "clip_grad_norm": 0.5,
    "accumulate": 2,
    "max_steps": 4,
}


def train(rank, folder):
    seen = []

    def evaluate(model):
        seen.append(weights(model))
        return {"AP": 1.0}

    runner = make_runner(
        folder, loader=Shard(rank), seed=rank, norm=True, evaluate=evaluate, **SETTINGS
    )
    runner.run()
    return {"weights": weights(runner.state.model), "average": seen[-1]}


def train_without_norm(rank, folder):
    runner = make_runner(folder, loader=Shard(rank), seed=rank, **SETTINGS)
    runner.run()
    return weights(runner.state.model)


def test_ranks_end_with_the_same_weights_and_average(tmp_path):
    # they start from different ones, as their seeds differ
    first, second = both(train, tmp_path)
    assert first == second
    content = read_checkpoint(tmp_path / "checkpoints/last.pt")
    assert _plain(dict(content["model"])) == first["average"]
    assert _plain(content["ema"]["average"]) == first["weights"]
    assert first["average"] != first["weights"]


def test_two_processes_equal_one_on_the_joined_batch(tmp_path):
    found, _ = both(train_without_norm, tmp_path / "two")
    runner = make_runner(tmp_path / "one", **SETTINGS)
    runner.run()
    found = {name: torch.tensor(value) for name, value in found.items()}
    torch.testing.assert_close(found, weights(runner.state.model), rtol=1e-5, atol=1e-6)


def exchange(rank, folder):
    model = Toy()
    model.first.weight.data.zero_()
    if rank == 1:
        model.first.weight.grad = torch.full((4, 3), 6.0)
    model.last.bias.grad = torch.full((1,), 2.0 + 2 * rank)
    active, flags = agree(list(model.parameters()), [rank == 1, False])
    average_gradients(active)
    mixed = [torch.full((2,), float(rank)), torch.full((1,), rank, dtype=torch.float64)]
    average_tensors(mixed)
    names = [n for n, p in model.named_parameters() if any(p is a for a in active)]
    means = [float(model.first.weight.grad.mean()), float(model.last.bias.grad)]
    return {"names": names, "flags": flags, "means": means, "mixed": [m.tolist() for m in mixed]}


def test_gradients_of_any_rank_count_on_all(tmp_path):
    first, second = both(exchange, tmp_path)
    assert first == second
    assert first == {
        "names": ["first.weight", "last.bias"],
        "flags": [True, False],
        "means": [3.0, 3.0],
        "mixed": [[0.5, 0.5], [0.5]],
    }


class Stop(Hook):
    """Sends one rank a signal."""

    def after_step(self, run, metrics):
        if dist.get_rank() == 1 and run.step_number == 3:
            os.kill(os.getpid(), signal.SIGTERM)


def message_of(kind, work):
    with pytest.raises(kind) as caught:
        work()
    return str(caught.value)


def fail(rank, folder):
    def step(model, batch, backward):
        metrics = plain_step(model, batch, backward)
        seen.append(rank)
        return {"loss": float("nan")} if rank == 1 and len(seen) == 4 else metrics

    seen = []
    stopped = make_runner(folder / "stopped", hooks=[Stop()], loader=Shard(rank))
    broken = make_runner(folder / "broken", step=step, loader=Shard(rank))

    def refuse():
        raise RunFolderError("the disk is full")

    return {
        "stopped": message_of(Interrupted, stopped.run),
        "broken": message_of(TrainingError, broken.run),
        "refused": message_of(RunFolderError, lambda: on_main(refuse)),
        "within": message_of(RunFolderError, lambda: told_by_main(lambda: on_main(refuse))),
        "told": [told_by_main(lambda: [told_by_main(lambda: dist.get_rank()), world_size()])],
        "next": told_by_main(lambda: "the next"),
    }


def test_ranks_stop_and_fail_together(tmp_path):
    first, second = both(fail, tmp_path)
    for message in (first, second):
        assert message["stopped"].startswith("stopped after step 4 of 10")
        assert message["broken"].startswith("the loss of step 4 is not finite")
        assert message["refused"] == message["within"] == "the disk is full"
        assert message["told"] == [[0, 1]]  # within the work of one rank there is no other
        assert message["next"] == "the next"
    assert "(on another process)" in first["broken"]
    assert "(loss)" in second["broken"]


def test_one_process_goes_on_with_what_two_have_begun(tmp_path, caplog):
    both(stop_and_go, tmp_path)
    one = make_runner(tmp_path / "cut", seed=9, **STOPPED)
    one.run(resume=True)
    assert "every step sees the same images" in caplog.text
    whole = read_checkpoint(tmp_path / "whole/checkpoints/last.pt")["ema"]["average"]
    torch.testing.assert_close(dict(whole), weights(one.state.model), rtol=1e-5, atol=1e-6)
    for first, second in zip(lines(tmp_path / "cut"), lines(tmp_path / "whole"), strict=True):
        assert first.pop("kind") == second.pop("kind")
        assert second == pytest.approx(first, rel=1e-4)


STOPPED = {**SETTINGS, "max_steps": 8, "log_every": 3}


def stop_and_go(rank, folder):
    settings = {"loader": Shard(rank), **STOPPED}
    message_of(Interrupted, make_runner(folder / "cut", hooks=[Stop()], **settings).run)
    make_runner(folder / "whole", **settings).run()


@pytest.mark.parametrize(
    ("size", "model", "message"),
    [
        (2, Toy(), "would have 2 images and not 4; start 2 "),
        (
            4,
            Toy(norm=True),
            r"batch norm \(norm\) would see 4 images at a time and not 2; start 2 ",
        ),
    ],
)
def test_other_numbers_of_processes_are_refused_where_they_train_otherwise(size, model, message):
    run = SimpleNamespace(loader=ToyLoader(size=size), model=model)
    with pytest.raises(CheckpointError, match=message):
        check_processes(run, 2, 4, "last.pt")
    check_processes(run, 1, 4, "last.pt")


def test_frozen_batch_norm_is_no_hindrance():
    class Frozen(Toy):
        def train(self, mode=True):
            super().train(mode)
            self.norm.eval()
            return self

    run = SimpleNamespace(loader=ToyLoader(), model=Frozen(norm=True))
    check_processes(run, 2, 4, "last.pt")


def resume(rank, folder):
    settings = {"loader": Shard(rank), "norm": True, "step": noisy, **STOPPED}
    message_of(Interrupted, make_runner(folder / "cut", hooks=[Stop()], seed=rank, **settings).run)
    ends = []
    for name in ("cut", "whole"):
        runner = make_runner(folder / name, seed=rank, **settings)
        runner.run(resume=name == "cut")
        ends.append(weights(runner.state.model))
    assert_same(*ends)
    if rank == 0:
        assert lines(folder / "cut") == lines(folder / "whole")
    return ends[0]


def lines(folder):
    """metrics.jsonl without times."""
    times = ("seconds", "images_per_second", "memory_mb", "eval_seconds")
    found = Journal(folder / "metrics.jsonl").read()
    return [{k: v for k, v in line.items() if k not in times} for line in found]


def noisy(model, batch, backward):
    """Each rank draws noise of its own."""
    return plain_step(model, Batch(batch.images + torch.randn(()), batch.targets), backward)


def test_resumed_ranks_go_on_with_their_own_random_states(tmp_path):
    first, second = both(resume, tmp_path)
    assert first == second


def late(rank, folder):
    # a step takes 1 s by the first rank's clock, 2 s by the second's
    clock = itertools.count(step=1.0 + rank)
    runner_module.time = SimpleNamespace(perf_counter=lambda: next(clock))
    runner = make_runner(folder, loader=Shard(rank), max_steps=1000, max_seconds=5.0)
    runner.run()
    return runner.state.step_number


def test_ranks_run_out_of_time_together(tmp_path):
    first, second = both(late, tmp_path)
    assert first == second == 3
