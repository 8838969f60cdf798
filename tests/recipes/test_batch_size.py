"""data.train.batch_size: auto, and the learning rate that goes with the images of a step."""

import pytest
import torch
import yaml

from razorlite.core.errors import ConfigError
from razorlite.engine.batch_size import TriedBatch
from razorlite.engine.checkpoint import read_checkpoint
from razorlite.recipes import batch_size, train
from razorlite.recipes.experiment import read
from tests.recipes.runs import detector, split, write

SGD = {"type": "SGD", "lr": 0.01}


def config(size="auto", **more) -> dict:
    settings = {"max_steps": 2, "optimizer": SGD, **more}
    data = {"train": split(22, 0, size), "val": split(4, 1)}
    return detector({"train": settings, "data": data})


def rate(tree: dict) -> tuple[float, int]:
    found = read(tree)[1].train
    return found.optimizer.kwargs["lr"], found.lr_batch_size


def test_the_rate_goes_with_the_images_of_a_step(monkeypatch):
    assert rate(config(4, lr_batch_size=16)) == (0.0025, 4)
    assert rate(config(4, lr_batch_size=16, accumulate=8)) == (0.02, 32)
    assert rate(config(4, lr_batch_size=4)) == (0.01, 4)
    assert rate(config(4)) == (0.01, None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert rate(config(4, lr_batch_size=16)) == (0.005, 8)


def test_a_scaled_configuration_is_scaled_once():
    once = read(config(4, lr_batch_size=16))[0]
    assert rate(once.tree) == (0.0025, 4)


def test_auto_is_scaled_when_it_is_settled():
    assert rate(config(lr_batch_size=16)) == (0.01, 16)


def test_a_rate_that_is_not_given_cannot_be_scaled():
    with pytest.raises(ConfigError, match=r"lr_batch_size: scales train.optimizer.lr"):
        read(config(4, lr_batch_size=16, optimizer={"type": "AdamW"}))


def test_other_splits_want_a_number():
    tree = config()
    tree["data"]["val"]["batch_size"] = "auto"
    with pytest.raises(ConfigError, match=r"data.val.batch_size: auto is for data.train alone"):
        read(tree)


def test_other_commands_say_where_the_number_is():
    data = read(config())[1].data
    with pytest.raises(ConfigError, match=r"take the config.yaml of its run folder"):
        _ = data.train.images
    assert data.val.images == 4


def test_a_run_that_goes_on_keeps_its_number(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_size, "_trials", lambda *_: pytest.fail("tried again"))
    write(config(6), tmp_path)
    merged, experiment = read(config(lr_batch_size=3))
    full, found = batch_size.settled(merged, experiment, torch.device("cpu"), tmp_path)
    assert full.get("data.train.batch_size") == found.data.train.images == 6
    assert found.train.optimizer.kwargs["lr"] == 0.02


@pytest.mark.slow
def test_the_number_alone_makes_the_same_run(tmp_path, monkeypatch):
    trials = batch_size._trials

    def slower_from_eight_on(*args):
        found = trials(*args)
        assert [one.images for one in found][:1] == [2]
        return [TriedBatch(4, 1.0, 0.1)]

    monkeypatch.setattr(batch_size, "_trials", slower_from_eight_on)
    train(config(lr_batch_size=16), tmp_path / "auto")
    train(config(4, lr_batch_size=16), tmp_path / "number")
    trees = [yaml.safe_load((tmp_path / n / "config.yaml").read_text()) for n in ("auto", "number")]
    assert trees[0] == trees[1]
    assert trees[0]["train"]["optimizer"]["lr"] == 0.0025
    one, other = (read_checkpoint(tmp_path / n / "checkpoints/last.pt") for n in ("auto", "number"))
    for name, value in one["model"].items():
        assert torch.equal(value, other["model"][name]), name
