"""What each command leaves behind, and the costs of published subnets."""

import json
from pathlib import Path

import pytest
import torch

from razorlite import cli
from razorlite.core.errors import RunFolderError
from razorlite.core.journal import Journal
from razorlite.engine.checkpoint import read_state_dict
from razorlite.recipes.pictures import or_warn
from razorlite.space import Subnet

PUBLISHED = {
    "spos_0x_paper": (3_558_952, 321_915_200),
    "spos_1x": (3_353_592, 316_019_520),
    "detnas_0x": (3_531_560, 320_215_488),
}


def printed(capsys, *words: object) -> dict:
    assert cli.main([str(word) for word in words]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("step", ["supernet", "subnet", "distill", "prune"])
def test_training_leaves_a_whole_run_folder(pipeline, step):
    folder = pipeline.root / step
    for name in ("config.yaml", "metrics.jsonl", "checkpoints/last.pt", "checkpoints/best.pt"):
        assert (folder / name).is_file()
    assert (folder / "pictures/training.png").is_file()
    kinds = [line["kind"] for line in Journal(folder / "metrics.jsonl").read()]
    assert kinds == ["train"] * 3 + ["eval"]


def test_search_leaves_a_subnet_a_journal_and_pictures(pipeline):
    folder = pipeline.root / "search"
    subnet = Subnet.load(folder / "subnet.yaml")
    trials = [line for line in Journal(folder / "journal.jsonl").read() if "trial" in line]
    best = max(trials, key=lambda trial: trial["score"])
    assert len(trials) == 4
    assert subnet.scores["AP"] == best["score"]
    assert {"macs", "params"} <= set(subnet.cost)
    assert (folder / "pictures/pareto.png").is_file()


def test_student_checkpoint_holds_the_student_alone(pipeline):
    plain = read_state_dict(pipeline.trained)
    student = read_state_dict(pipeline.root / "distill/checkpoints/last.pt")
    assert student.keys() == plain.keys()


def test_search_never_scores_on_trained_or_tested_images(pipeline):
    from razorlite.recipes.experiment import read
    from razorlite.recipes.splits import Splits

    splits = Splits(read(pipeline.supernet)[1], torch.device("cpu"))
    trained, scored, tested = (set(s.keys) for s in (splits.train, splits.search, splits.test))
    assert scored
    assert not scored & (trained | tested)
    retrained = Splits(read(pipeline.subnet)[1], torch.device("cpu"))
    assert set(retrained.train.keys) == trained | scored


def test_cost_of_a_chosen_and_of_a_pruned_model(pipeline, capsys):
    whole = printed(capsys, "cost", pipeline.subnet, "--json")
    slim = printed(
        capsys, "cost", pipeline.prune, "--subnet", pipeline.root / "prune/subnet.yaml", "--json"
    )
    chosen = Subnet.load(pipeline.root / "search/subnet.yaml")
    assert whole["macs"] == chosen.cost["macs"]
    assert whole["params"] == chosen.cost["params"]
    assert slim["macs"] <= 0.8 * whole["macs"]
    assert slim["macs"] == Subnet.load(pipeline.root / "prune/subnet.yaml").cost["macs"]


def test_the_pruned_run_folder_is_a_model_of_its_own(pipeline, capsys):
    folder = pipeline.root / "prune"
    metrics = printed(
        capsys, "test", folder / "config.yaml", folder / "checkpoints/last.pt", "--json"
    )
    assert {"AP", "AP50", "macs", "params"} <= set(metrics)


def test_supernet_checkpoint_is_tested_on_a_path(pipeline, capsys):
    subnet = pipeline.root / "search/subnet.yaml"
    metrics = printed(
        capsys, "test", pipeline.supernet, pipeline.weights, "--subnet", subnet, "--json"
    )
    assert metrics["macs"] == Subnet.load(subnet).cost["macs"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_subnets_cost_what_was_published(test_data: Path, capsys, name):
    file = test_data / "published_subnets" / f"{name}.yaml"
    metrics = printed(capsys, "cost", "spos/shufflenetv2_spos_imagenet", "--subnet", file, "--json")
    assert (metrics["params"], metrics["macs"]) == PUBLISHED[name]


def test_a_picture_that_cannot_be_drawn_is_no_failure(caplog):
    def fail():
        raise RunFolderError("cannot write a.png: the disk is full")

    or_warn(fail)
    assert caplog.messages == [
        "a picture is missing, all else is written: cannot write a.png: the disk is full"
    ]
    with pytest.raises(ZeroDivisionError):  # a fault of ours
        or_warn(lambda: 1 / 0)
