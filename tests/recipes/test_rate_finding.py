"""The command lr-find: what it writes, and that it touches nothing else."""

import json

import pytest

from razorlite.core.errors import ConfigError
from razorlite.recipes import find_lr
from razorlite.recipes.rate_finding import Range, lines
from tests.recipes.runs import detector


@pytest.mark.slow
def test_a_supernet_is_tried_and_nothing_but_the_folder_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = {"max_epochs": 9, "accumulate": 2, "amp": "bf16", "optimizer": {"type": "SGD", "lr": 3}}
    config = detector({"train": train, "work_dir": str(tmp_path / "run")})
    found = find_lr(config, tmp_path / "lr", tried=Range(1e-5, 1e-2, 10))
    assert len(found.losses) == 10
    written = json.loads((tmp_path / "lr" / "lr_find.json").read_text())
    assert written == {"format": 1, "configured": 3.0, **found.to_dict()}
    assert (tmp_path / "lr" / "lr_find.png").stat().st_size > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["lr"]


@pytest.mark.slow
def test_it_is_the_same_each_time():
    config = detector({"train": {"max_epochs": 1, "optimizer": {"type": "AdamW"}}})
    assert find_lr(config, tried=Range(steps=10)) == find_lr(config, tried=Range(steps=10))


def test_it_needs_a_train_block():
    with pytest.raises(ConfigError, match="no `train` block"):
        find_lr(detector({}))


def test_lines_say_how_to_take_it():
    from razorlite.engine.rate_test import RangeTest

    found = RangeTest(tuple(range(1, 22)), (*[1.0] * 10, 0.5, *[0.0] * 10))
    assert any("--set train.optimizer.lr=" in line for line in lines(found))
    assert "fell nowhere" in lines(RangeTest((1.0, 2.0), (1.0, 2.0)))[0]
    assert "start lower" in lines(RangeTest((), (), True))[0]
