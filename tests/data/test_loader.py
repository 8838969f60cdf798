"""Loaders: nothing but (seed, epoch, index) decides what an item looks like."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from razorlite.core.errors import ConfigError, DataError
from razorlite.data import (
    ColourJitter,
    Dataset,
    Pad,
    Preprocess,
    RandomCrop,
    RandomFlip,
    Resize,
    ShapesDataset,
    build_loader,
)
from razorlite.data._collating import collate
from razorlite.data._workers import _tell_unless_main_hung_up
from tests.data.helpers import ids, same, target

WILD = [RandomCrop(size=(40, 40)), Resize(short=[32, 48]), RandomFlip(), ColourJitter()]


def shapes(count=10, **kwargs):
    return ShapesDataset(num_images=count, size=(48, 64), seed=1, **kwargs)


def wild(count=10, **kwargs):
    return build_loader(shapes(count), transforms=WILD, seed=5, **{"batch_size": 4, **kwargs})


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(workers):
    here, there = wild(), wild(num_workers=workers)
    try:
        for _ in range(2):  # two epochs with the same worker processes
            same(list(here), list(there))
    finally:
        there.close()


def test_epochs_differ_and_seeds_differ():
    loader = wild()
    first, second = list(loader), list(loader)
    assert sorted(ids(first)) == sorted(ids(second)) == list(range(10))
    assert ids(first) != ids(second)
    loader.set_position(0, 0)
    same(list(loader), first)
    other = build_loader(shapes(), transforms=WILD, seed=6, batch_size=4)
    assert ids(list(other)) != ids(first)


@pytest.mark.parametrize("workers", [0, 1])
def test_resuming_in_the_middle_gives_the_rest(workers):
    loader = wild(num_workers=workers)
    list(loader)
    second = list(loader)
    loader.close()
    fresh = wild(num_workers=workers)
    fresh.set_position(1, 1)
    same(list(fresh), second[1:])
    fresh.set_position(1, 3)
    assert list(fresh) == []
    fresh.close()


def test_leaving_a_pass_early_leaves_no_trace():
    loader = wild(num_workers=1)
    everything = list(loader)
    loader.set_position(0, 0)
    for _batch in loader:
        break
    loader.set_position(0, 0)
    same(list(loader), everything)
    loader.close()


@pytest.mark.parametrize("count", [16, 10, 3])
def test_ranks_joined_are_one_process(count):
    whole = list(wild(count, batch_size=4))
    ranks = [list(wild(count, batch_size=2, rank=r, world_size=2)) for r in range(2)]
    assert len(ranks[0]) == len(ranks[1]) == len(whole)
    for batch, *parts in zip(whole, *ranks, strict=True):
        for place, one in enumerate(batch.targets):
            other = parts[place % 2].targets[place // 2]
            assert one.image_id == other.image_id
            assert torch.equal(one.boxes, other.boxes)
            h, w = one.size
            image = parts[place % 2].images[place // 2]
            assert torch.equal(image[:, :h, :w], batch.images[place][:, :h, :w])


def test_training_gives_every_rank_as_many_items_and_testing_repeats_none():
    def loaders(shuffle):
        return [
            build_loader(shapes(7), batch_size=2, rank=r, world_size=3, training=shuffle)
            for r in range(3)
        ]

    training = [ids(loader) for loader in loaders(True)]
    assert [len(part) for part in training] == [3, 3, 3]
    assert {key for part in training for key in part} == set(range(7))
    testing = [ids(loader) for loader in loaders(False)]
    assert testing == [[0, 3, 6], [1, 4], [2, 5]]
    assert [len(loader) for loader in loaders(False)] == [2, 1, 1]


def test_drop_last():
    assert len(wild(10, drop_last=True)) == 2
    assert [len(batch) for batch in wild(10, drop_last=True)] == [4, 4]
    assert [len(batch) for batch in wild(3, drop_last=True)] == [3]  # never no batch at all


def test_padding_is_exactly_zero_after_normalising():
    loader = build_loader(
        shapes(6), transforms=[Resize(short=[20, 30, 40])], batch_size=6,
        preprocess=Preprocess(mean=(100, 50, 20), std=(10, 20, 40), pad_multiple=32),
        training=False,
    )  # fmt: skip
    (batch,) = loader
    assert batch.images.dtype == torch.float32
    assert all(side % 32 == 0 for side in batch.images.shape[2:])
    assert len({target.size for target in batch.targets}) > 1
    for image, one in zip(batch.images, batch.targets, strict=True):
        height, width = one.size
        assert (image[:, height:] == 0).all()
        assert (image[:, :, width:] == 0).all()
        assert (image[:, :height, :width] != 0).float().mean() > 0.9


def test_normalising_by_hand():
    image, _ = shapes()[0]
    loader = build_loader(shapes(1), preprocess=Preprocess(mean=(100, 50, 20), std=(10, 20, 40)))
    (batch,) = loader
    expected = (image.float() - tensor([100.0, 50, 20]).view(3, 1, 1)) / tensor(
        [10.0, 20, 40]
    ).view(3, 1, 1)
    assert_close(batch.images[0], expected)
    bgr = Preprocess(mean=(20, 50, 100), std=(40, 20, 10), channels="bgr")
    swapped = build_loader(shapes(1), preprocess=bgr)
    assert_close(next(iter(swapped)).images[0], expected.flip(0))


def test_grey_padding_of_a_transform_is_normalised():
    loader = build_loader(
        shapes(1),
        transforms=[Pad(size=(64, 64), value=114)],
        preprocess=Preprocess(mean=(100,) * 3, std=(7,) * 3),
    )
    (batch,) = loader
    assert (batch.images[0, :, 48:] == 2.0).all()
    assert batch.targets[0].size == (48, 64)


def test_masks_are_padded_with_their_batch():
    loader = build_loader(
        shapes(4, masks=True),
        transforms=[Resize(short=[20, 40])],
        batch_size=4,
        preprocess=Preprocess(pad_multiple=16),
    )
    (batch,) = loader
    for one in batch.targets:
        assert one.masks.shape[1:] == batch.images.shape[2:]
        assert one.masks.dtype == torch.bool
        assert one.masks.flatten(1).any(1).all()
        assert not one.masks[:, one.size[0] :].any()


def test_global_random_states_are_left_alone():
    for workers in (0, 1):
        torch.manual_seed(3), np.random.seed(3), random.seed(3)
        expected = torch.rand(3), np.random.rand(), random.random()
        torch.manual_seed(3), np.random.seed(3), random.seed(3)
        loader = wild(num_workers=workers)
        list(loader)
        loader.close()
        assert torch.equal(torch.rand(3), expected[0])
        assert (np.random.rand(), random.random()) == expected[1:]


def test_kept_batches_are_made_once():
    calls = []

    def count(image, target):
        calls.append(1)
        return image, target

    loader = build_loader(
        shapes(5), transforms=[count], batch_size=2, training=False, keep_batches=True
    )
    first = list(loader)
    same(list(loader), first)
    assert len(calls) == 5
    loader.set_position(0, 2)
    same(list(loader), first[2:])


class Labelled(Dataset):
    """Six images of classes 0, 1, 2, 0, 1, 2."""

    classes = ("a", "b", "c")
    keys = [str(i) for i in range(6)]  # noqa: RUF012
    faults = []  # noqa: RUF012

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.full((3, 8, 8), index, dtype=torch.uint8), index % 3


@pytest.mark.parametrize("workers", [0, 1])
def test_classification_batches_hold_labels(workers):
    loader = build_loader(Labelled(), batch_size=4, training=False, num_workers=workers)
    batches = list(loader)
    loader.close()
    assert [batch.targets.tolist() for batch in batches] == [[0, 1, 2, 0], [1, 2]]
    assert batches[0].targets.dtype == torch.int64


def broken(image, target):
    raise ValueError("no such colour")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failing_transform_is_told_in_one_line(workers):
    loader = build_loader(shapes(), transforms=[broken], num_workers=workers)
    with pytest.raises(
        DataError, match=r" at \S+: ValueError: no such colour \(.*test_loader.py:\d+\)$"
    ):
        list(loader)
    loader.close()


def die(image, target):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_explained():
    loader = build_loader(shapes(), transforms=[die], num_workers=1)
    with pytest.raises(DataError, match=r"a data worker died .*lower num_workers \(is 1\)"):
        list(loader)


def interrupt_all(image, target):
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    return image, target


def test_workers_leave_stopping_to_the_main_process():
    loader = build_loader(shapes(4), transforms=[interrupt_all], batch_size=2, num_workers=1)
    assert len(list(loader)) == 2
    loader.close()


def test_closing_ends_the_workers():
    loader = wild(num_workers=2)
    list(loader)
    workers = loader._pool._loader._iterator._workers
    loader.close()
    for _ in range(50):
        if not any(worker.is_alive() for worker in workers):
            break
        time.sleep(0.1)
    assert not any(worker.is_alive() for worker in workers)
    assert len(list(loader)) == 3  # and it can start again
    loader.close()


def test_kept_images_are_shared_by_subsets(tmp_path):
    from razorlite.data import CocoDataset
    from tests.data.helpers import coco

    dataset = CocoDataset(**coco(tmp_path, [], images=3), cache=True)
    before = dataset[1][0]
    subset = dataset.subset([1, 2])
    assert subset[0][0].data_ptr() == before.data_ptr()
    subset.fill_cache()
    for name in "123":
        (tmp_path / "images" / f"{name}.jpg").unlink()
    assert torch.equal(subset[0][0], before)
    assert subset[1][0].shape == (3, 40, 60)
    with pytest.raises(OSError, match=r"1\.jpg"):
        dataset[0]


def test_wrong_arguments():
    with pytest.raises(DataError, match="empty data set"):
        build_loader(shapes().subset([]))
    with pytest.raises(ConfigError, match="batch_size >= 1"):
        build_loader(shapes(), batch_size=0)
    with pytest.raises(ConfigError, match="std above 0"):
        build_loader(shapes(), preprocess=Preprocess(std=(1, 0, 1)))
    with pytest.raises(ConfigError, match="keep_batches"):
        build_loader(shapes(), keep_batches=True)


def test_transforms_see_targets_and_may_drop_all_objects():
    def drop(image, one):
        return image, one[torch.zeros(len(one), dtype=torch.bool)]

    (batch,) = build_loader(shapes(2), transforms=[drop], batch_size=2)
    assert [len(one) for one in batch.targets] == [0, 0]
    assert batch.targets[0].boxes.shape == target([]).boxes.shape


# Interrupted between two batches: PyTorch's clean-up of an iterator swallows exceptions.
SCRIPT = """
import sys
from razorlite.data import ShapesDataset, build_loader
batches = iter(build_loader(ShapesDataset(num_images=400), batch_size=2, num_workers=2))
next(batches), next(batches)  # one of each worker: both have started
try:
    print("ready", flush=True)
    while True:
        sum(range(100))
except KeyboardInterrupt:
    print(len(list(batches)), "more", flush=True)
    sys.exit(3)
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_ctrl_c_reaches_only_the_main_process_and_leaves_nothing_behind():
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert output == "198 more\n"
    assert process.returncode == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_masks_are_kept_as_annotated_for_evaluation_alone(workers):
    dataset = ShapesDataset(num_images=3, size=(40, 60), seed=1, masks=True)
    options = {"transforms": [Resize(size=(20, 24))], "batch_size": 3, "num_workers": workers}
    [judged] = build_loader(dataset, training=False, **options)
    for number, judged_target in enumerate(judged.targets):
        annotated = dataset[number][1]
        assert torch.equal(judged_target.original_masks, annotated.masks)
        assert judged_target.masks.shape[1:] == (16, 24)
    [learnt] = build_loader(dataset, training=True, **options)
    assert all(t.original_masks is None for t in learnt.targets)


def test_batches_beyond_all_measure_are_refused(monkeypatch):
    monkeypatch.setattr("razorlite.data._collating._MOST_PIXELS", 40_000)
    ragged = [torch.zeros(3, 2, 300, dtype=torch.uint8), torch.zeros(3, 200, 2, dtype=torch.uint8)]
    with pytest.raises(
        DataError, match=r"2 images, padded to 300 x 200 pixels each, are too large"
    ):
        collate(ragged, 1)
    assert collate(ragged[:1], 1)[0].shape == (1, 3, 2, 300)


def test_workers_say_nothing_when_main_hangs_up(capsys):
    for kind in (ConnectionResetError, EOFError, ValueError):
        _tell_unless_main_hung_up(kind, kind("told"), None)
    assert capsys.readouterr().err == "ValueError: told\n"
