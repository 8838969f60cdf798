"""Pruning by importance from training images: by the command, and what the check refuses."""

import pytest
import torch

from razorlite import recipes
from razorlite.core.errors import ConfigError, RunFolderError
from razorlite.engine.checkpoint import read_checkpoint
from razorlite.engine.checkpoint_io import save_checkpoint
from razorlite.recipes import training
from razorlite.recipes.checking import check_config
from razorlite.space import Subnet
from tests.engine.toys import assert_same
from tests.recipes.runs import detector, lines, run, split, write
from tests.recipes.test_prune_resume import MODEL, killed

pytestmark = pytest.mark.slow
FISHER = {"type": "GroupFisherImportance", "batches": 2}


def tree(**prune):
    block = {"budget": {"macs": "60%"}, "round_to": 2, **prune}
    data = {"train": split(8, 0)}
    return detector({"mutator": None, "model": MODEL, "data": data, "prune": block})


@pytest.fixture(scope="module")
def weights(module_path):
    torch.manual_seed(0)
    path = module_path / "weights.pt"
    save_checkpoint(path, {"model": recipes.build_model(tree()).state_dict(), "meta": {}})
    return path


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


TRAIN = {"max_steps": 6, "optimizer": {"type": "SGD", "lr": 0.01}, "save_every": 2, "log_every": 1}
GRADUAL = {"type": "GradualStep", "every": 2, "drop": 20}


def test_check_refuses_steps_that_do_not_fit():
    gradual = {"train": TRAIN, "step": GRADUAL}
    assert check_config(tree(importance=FISHER, before=gradual)) == []
    with pytest.raises(ConfigError, match=r"prune\.rounds: GradualStep comes down to the budget"):
        check_config(tree(importance=FISHER, before=gradual, rounds=2))
    sparse = {"train": TRAIN, "step": {"type": "SparseStep"}}
    assert check_config(tree(before=sparse, rounds=2)) == []
    for counted in ({"macs": "90%"}, {}):
        with pytest.raises(ConfigError, match=r"prune\.budget: .* in the place of latency_ms"):
            check_config(tree(before=gradual, budget={**counted, "latency_ms": "90%"}))
    with pytest.raises(ConfigError, match="ignore: no module matches 'nekc'"):
        check_config(tree(budget={"latency_ms": "90%"}, ignore=["nekc"]))
    with pytest.raises(ConfigError, match=r"needs a model to prune: list it in prune\.before"):
        check_config({**tree(), "train": TRAIN, "step": {"type": "SparseStep"}})


@pytest.mark.parametrize("step", [[{"type": "SparseStep"}, GRADUAL], {"type": "SparseStep"}])
def test_killed_training_before_pruning_ends_with_the_same_weights(weights, tmp_path, step):
    config = write(tree(importance=FISHER, before={"train": TRAIN, "step": step}), tmp_path)
    words = ("prune", config, weights)
    run(*words, folder=tmp_path / "whole")
    folder = tmp_path / "run"
    killed(words, folder, lambda: len(lines(folder / "before")) > 2)
    run(*words, "--resume", folder=folder)
    ours, theirs = (
        read_checkpoint(f / "checkpoints/last.pt") for f in (folder, tmp_path / "whole")
    )
    assert_same(ours["model"], theirs["model"])
    found, expected = (Subnet.load(f / "subnet.yaml") for f in (folder, tmp_path / "whole"))
    assert found.channels == expected.channels
    whole = recipes.cost(config, as_json=True)["macs"]
    assert found.cost["macs"] <= 0.6 * whole
    with pytest.raises(RunFolderError, match="go on with the same command"):
        recipes.prune(*words[1:], folder, {"prune.round_to": 4}, resume=True)


def test_the_training_before_pruning_is_by_its_own_block(weights, tmp_path):
    train = {**TRAIN, "max_steps": 1, "lr_batch_size": 16, "best_metric": "AP50"}
    config = tree(before={"train": train, "step": {"type": "SparseStep"}})
    config["data"]["val"] = split(4, 1)
    recipes.prune(config, weights, tmp_path / "run")
    line, evaluated = lines(tmp_path / "run/before")
    assert line["lr"] == pytest.approx(0.01 * 4 / 16)
    progress = read_checkpoint(tmp_path / "run/before/checkpoints/last.pt")["progress"]
    assert progress["best"] == evaluated["AP50"]


def test_images_of_more_classes_than_the_model_has_are_refused(tmp_path):
    config = tree(importance=FISHER)
    config["model"] = {**MODEL, "bbox_head": {**MODEL["bbox_head"], "num_classes": 2}}
    weights = recipes.build_model(config).state_dict()
    save_checkpoint(tmp_path / "two.pt", {"model": weights, "meta": {}})
    with pytest.raises(ConfigError, match="tells 2 apart"):
        recipes.prune(config, tmp_path / "two.pt", tmp_path / "run")


def test_scores_in_the_folder_are_those_of_its_best_weights(weights, tmp_path, monkeypatch):
    scores = iter([0.3, 0.7, 0.5])
    monkeypatch.setattr(training, "_evaluate", lambda *_: lambda _: {"AP": next(scores)})
    train = {**TRAIN, "max_steps": 3, "eval_every": 1}
    settings = {**tree(), "train": train, "data": {"train": split(8, 0), "val": split(2, 1)}}
    found = recipes.prune(settings, weights, tmp_path / "run")
    assert read_checkpoint(tmp_path / "run/checkpoints/best.pt")["meta"]["AP"] == 0.7
    assert found.scores == Subnet.load(tmp_path / "run/subnet.yaml").scores == {"AP": 0.7}
