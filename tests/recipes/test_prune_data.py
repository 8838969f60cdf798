"""Pruning by importance from training images: by the command, and what the check refuses."""

import pytest
import torch

from razorlite import recipes
from razorlite.core.errors import ConfigError
from razorlite.engine.checkpoint_io import save_checkpoint
from razorlite.recipes.checking import check_config
from tests.recipes.runs import detector, split
from tests.recipes.test_prune_resume import MODEL

FISHER = {"type": "GroupFisherImportance", "batches": 2}


def tree(**prune):
    block = {"budget": {"macs": "60%"}, "round_to": 2, **prune}
    data = {"train": split(8, 0)}
    return detector({"mutator": None, "model": MODEL, "data": data, "prune": block})


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "weights.pt"
    save_checkpoint(path, {"model": recipes.build_model(tree()).state_dict(), "meta": {}})
    return path


@pytest.mark.slow
def test_command_gathers_from_training_images(weights, tmp_path):
    config = tree(importance=FISHER, per="memory")
    found = [recipes.prune(config, weights, tmp_path / name) for name in "ab"]
    assert found[0].channels == found[1].channels
    others = recipes.prune(tree(), weights, tmp_path / "l1")
    assert others.channels != found[0].channels


def test_check_refuses_what_cannot_be_gathered():
    assert check_config(tree(importance=FISHER, per="macs", allocation="local")) == []
    with pytest.raises(ConfigError, match="GroupFisherImportance is gathered over training images"):
        check_config({**tree(importance=FISHER), "data": None})
    with pytest.raises(ConfigError, match=r"prune\.per: wants one of"):
        check_config(tree(per="time"))
