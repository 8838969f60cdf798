"""Two batches of everything, and nothing kept."""

import logging

import pytest

from razorlite.core.errors import ConfigError
from razorlite.recipes import train
from tests.recipes.runs import detector


@pytest.mark.slow
def test_two_batches_of_everything(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    config = detector({"train": {"max_epochs": 50, "optimizer": {"type": "SGD", "lr": 1e-3}}})
    del config["mutator"]
    config["model"]["backbone"] = {"type": "ShuffleNetV2", "width": 0.5, "out_indices": [0, 1]}
    config["model"]["neck"]["in_channels"] = [48, 96]
    config["data"]["train"]["last_epochs"] = {"epochs": 5, "transforms": []}
    metrics = train(config, overrides=["train.eval_every=1"], fast_dev_run=True)
    assert "AP" in metrics
    assert "training 2 steps" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_it_keeps_nothing(tmp_path):
    with pytest.raises(ConfigError, match="fast_dev_run keeps nothing"):
        train({}, work_dir=tmp_path, fast_dev_run=True)
