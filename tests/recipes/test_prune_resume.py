"""Pruning that is killed goes on by the same command, and ends as if nothing had happened."""

import random
import signal

import pytest
import torch
import yaml

from razorlite import cli, recipes
from razorlite.core.errors import CheckpointError, RunFolderError
from razorlite.core.journal import Journal
from razorlite.cost import count
from razorlite.deploy import RuntimeTimer
from razorlite.engine.checkpoint import load_weights, read_checkpoint
from razorlite.prune import Stopwatch
from razorlite.recipes import pruning
from razorlite.recipes.building import build, load_trained
from razorlite.recipes.card import read_card
from razorlite.recipes.experiment import read
from razorlite.space import Subnet
from razorlite.trace import channel_graph
from tests.engine.toys import assert_same
from tests.recipes.runs import Command, detector, last, lines, run, split, write

TRAIN = {
    "max_steps": 6,
    "optimizer": {"type": "AdamW", "lr": 1e-3},
    "ema": {"decay": 0.9, "warmup_steps": 2},
    "save_every": 2,
    "log_every": 1,
}
MODEL = {
    "type": "FCOS",
    "backbone": {"type": "ShuffleNetV2", "width": 0.5, "out_indices": [0]},
    "neck": {"type": "FPN", "in_channels": [48], "out_channels": 16, "num_outs": 2},
    "bbox_head": {
        "type": "FCOSHead",
        "num_classes": 3,
        "in_channels": 16,
        "feat_channels": 16,
        "stacked_convs": 1,
        "strides": [8, 16],
    },
}
FILES = ("subnet.yaml", "round_1/subnet.yaml", "config.yaml", "round_1/config.yaml")


@pytest.fixture(scope="module")
def whole(module_path):
    """Words of a command that prunes in two rounds, and the folder of its uninterrupted run."""
    tree = detector({"train": {**TRAIN, "max_steps": 1, "save_every": None}, "mutator": None})
    tree |= {"model": MODEL, "data": {"train": split(12, 0), "val": split(4, 1)}}
    run("train", write(tree, module_path), folder=module_path / "trained")
    tree |= {"train": TRAIN, "prune": {"budget": {"macs": "60%"}, "round_to": 2, "rounds": 2}}
    trained = module_path / "trained/checkpoints/last.pt"
    words = ("prune", write(tree, module_path, "prune.yaml"), trained)
    run(*words, folder=module_path / "whole")
    return words, module_path / "whole"


def check(folder, whole_folder):
    for where, expected in ((folder, whole_folder), (folder / "round_1", whole_folder / "round_1")):
        ours, theirs = last(where), last(expected)
        for content in (ours, theirs):
            content["meta"].pop("config")
        assert_same(ours, theirs)
        assert lines(where) == lines(expected)
    for name in FILES:
        text = (folder / name).read_text().replace(str(folder), "FOLDER")
        assert text == (whole_folder / name).read_text().replace(str(whole_folder), "FOLDER")


def test_limits_are_of_the_model_that_was_given(whole):
    words, folder = whole
    trained = recipes.cost(words[1], as_json=True)["macs"]
    kept, early = (Subnet.load(folder / name) for name in ("subnet.yaml", "round_1/subnet.yaml"))
    assert 0.55 * trained <= kept.cost["macs"] <= 0.6 * trained
    # 0.6 + 0.4 * (1 - 1 / 2) ** 3
    assert early.cost["macs"] <= 0.65 * trained
    assert recipes.cost(folder / "config.yaml", as_json=True)["macs"] == kept.cost["macs"]


def killed(words, folder, ready, *more):
    command = Command(*words, "--work-dir", folder, *more, folder=folder)
    command.send_when(ready, signal.SIGKILL)
    assert command.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_killed_pruning_ends_with_the_same_weights(whole, tmp_path):
    words, whole_folder = whole
    folder = tmp_path / "run"
    moments = [  # when a file is there, or a round has logged so many lines
        random.SystemRandom().choice(
            [
                lambda: (folder / "round_1/subnet.yaml").exists(),
                lambda: (folder / "round_1/checkpoints/start.pt").exists(),
                lambda: len(lines(folder / "round_1")) > 3,
            ]
        ),
        random.SystemRandom().choice(
            [lambda: (folder / "checkpoints/start.pt").exists(), lambda: len(lines(folder)) > 3]
        ),
    ]
    for number, moment in enumerate(moments):
        killed(words, folder, moment, *(["--resume"] if number else []))
    run(*words, "--resume", folder=folder)
    check(folder, whole_folder)


def test_finished_pruning_says_so(whole, caplog):
    words, folder = whole
    before = (folder / "checkpoints/last.pt").read_bytes()
    with caplog.at_level("INFO", "razorlite"):
        kept = recipes.prune(*words[1:], folder, resume=True)
    assert "is finished" in caplog.text
    assert kept == Subnet.load(folder / "subnet.yaml")
    assert before == (folder / "checkpoints/last.pt").read_bytes()


def test_pruning_of_something_else_is_not_gone_on_with(whole):
    words, folder = whole
    with pytest.raises(RunFolderError, match="go on with the same command"):
        recipes.prune(*words[1:], folder, {"prune.round_to": 4}, resume=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruning, "build_plain", None)  # before anything is built
        with pytest.raises(RunFolderError, match="already holds a run"):
            recipes.prune(*words[1:], folder)


def test_weights_alone_tell_that_they_are_of_a_subnet(whole):
    words, folder = whole
    experiment = read(words[1])[1]
    with pytest.raises(CheckpointError, match="it is of a subnet: name the file of it by --subnet"):
        load_trained(build(experiment), folder / "checkpoints/last.pt", experiment)


@pytest.mark.slow
def test_interrupted_measuring_is_not_done_again(whole, tmp_path, monkeypatch):
    """Ctrl-C while slim models are timed, before anything is pruned."""
    timed = []

    def measured(stopwatch, slim):
        timed.append(count(slim, (64, 64)).macs)
        if len(timed) == 3:
            raise KeyboardInterrupt
        return {"ms": timed[-1], "whole_ms": timed[0], "share": timed[-1] / timed[0], "rounds": 1}

    monkeypatch.setattr(RuntimeTimer, "opened", lambda timer, model: model)
    monkeypatch.setattr(Stopwatch, "_measured", measured)
    monkeypatch.setattr("razorlite.prune.stopwatch.quickest", lambda new, _: dict.fromkeys(new, 1))
    settings = {"prune.budget": {"latency_ms": "60%"}, "prune.rounds": 1, "train": None}
    with pytest.raises(KeyboardInterrupt):
        recipes.prune(*whole[0][1:], tmp_path, settings)
    before = timed[:2]
    assert sum("ms" in record for record in Journal(tmp_path / "latency.jsonl")) == 2
    kept = recipes.prune(*whole[0][1:], tmp_path, settings, resume=True)
    assert not set(before) & set(timed[3:])
    assert kept.cost["macs"] <= 0.62 * before[0]


def test_training_does_not_go_on_with_a_pruning(whole, capsys):
    _, folder = whole
    words = ["train", str(folder / "config.yaml"), "--work-dir", str(folder), "--resume"]
    assert cli.main(words) == 2
    assert "holds a run of `razorlite prune`" in capsys.readouterr().err


@pytest.mark.slow
def test_all_rounds_read_the_model_once(whole, tmp_path, monkeypatch):
    reads = []
    monkeypatch.setattr(
        "razorlite.prune.channels.channel_graph",
        lambda *args, **kwargs: reads.append(args) or channel_graph(*args, **kwargs),
    )
    once = {"train": None, "data": None}
    first = recipes.prune(*whole[0][1:], tmp_path / "run", once)
    assert len(reads) == 1
    # the check reads the first form of a slim model on shapes, the job with values
    slim, last = tmp_path / "run/config.yaml", tmp_path / "run/checkpoints/last.pt"
    settings = {**once, "prune.budget": 0.8, "prune.rounds": 1, "load_from": None}
    second = recipes.prune(slim, last, tmp_path / "again", settings)
    assert len(reads) == 3
    assert second.cost["macs"] <= 0.8 * first.cost["macs"]


def test_configuration_trains_from_the_slim_weights(whole, tmp_path, monkeypatch):
    """From any folder, and after the run was moved."""
    _, folder = whole
    folder.rename(folder.with_name("moved"))
    try:
        config = folder.with_name("moved") / "config.yaml"
        monkeypatch.chdir(tmp_path)
        assert yaml.safe_load(config.read_text())["load_from"] == "./checkpoints/start.pt"
        overrides = ["train.max_steps=1", "train.optimizer.lr=0", "train.ema=null", "data.val=null"]
        recipes.train(config, tmp_path / "again", overrides)
    finally:
        folder.with_name("moved").rename(folder)
    ours, theirs = (
        read_checkpoint(path)["model"]["bbox_head.conv_cls.weight"]
        for path in (tmp_path / "again/checkpoints/last.pt", folder / "checkpoints/start.pt")
    )
    assert torch.equal(ours, theirs)


@pytest.mark.slow
def test_pruned_model_is_pruned_again_and_again(whole, tmp_path):
    """Each time down to a share of what the command is given; nothing is trained."""
    _, folder = whole
    config, weights = folder / "config.yaml", folder / "checkpoints/last.pt"
    before = Subnet.load(folder / "subnet.yaml").cost["macs"]
    for name in ("second", "third"):
        overrides = ["train=null", "prune.rounds=1", "prune.budget.macs=80%", "prune.min_keep=0.01"]
        kept = recipes.prune(config, weights, tmp_path / name, overrides)
        assert 0.7 * before <= kept.cost["macs"] <= 0.8 * before
        config, weights = tmp_path / name / "config.yaml", tmp_path / name / "checkpoints/last.pt"
        model = recipes.build_model(config)
        assert count(model, (64, 64)).macs == kept.cost["macs"]
        load_weights(model, weights)
        card = read_card(weights)
        assert card.subnet is not None
        assert card.subnet.channels == kept.channels
        assert card.classes is not None
        before = kept.cost["macs"]
