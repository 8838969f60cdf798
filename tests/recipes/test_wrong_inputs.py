"""Wrong inputs: one clear line, exit code 2, and nothing lost."""

import copy
import json
import pickle
from pathlib import Path

import pytest
import torch

from razorlite import cli
from razorlite.core import files
from tests.data.helpers import coco
from tests.recipes.runs import write


def complaint(capsys, *words: object) -> str:
    """Return the one line of standard error that a command must end with."""
    capsys.readouterr()
    assert cli.main([str(word) for word in words]) == 2
    message = [x for x in capsys.readouterr().err.strip().splitlines() if x.startswith("error: ")]
    assert len(message) == 1, message
    return message[0]


def changed(pipeline, folder: Path, path: str, value: object) -> Path:
    """Write the supernet's configuration with one value changed; None takes it out."""
    tree = copy.deepcopy(pipeline.tree)
    *parents, last = path.split(".")
    place = tree
    for part in parents:
        place = place[part]
    if value is None:
        place.pop(last)
    else:
        place[last] = value
    return write(tree, folder, "changed.yaml")


class TestConfiguration:
    @pytest.mark.parametrize(
        ("path", "value", "expected"),
        [
            ("model.neck.out_chanels", 16, "did you mean 'out_channels'"),
            ("model.neck.out_channels", "many", "out_channels"),
            ("model.neck.out_channels", None, "out_channels"),
            ("model.neck.type", "FPNN", "did you mean 'FPN'"),
            ("train.optimizer.type", "AdamX", "did you mean 'Adam"),
            ("train.max_epochs", 2, "exactly one of max_epochs and max_steps"),
            ("data.holdout", 1.5, "data.holdout: wants a number above 0 and below 1"),
            ("device", "tpu", "device"),
            ("custom_imports", ["no_such_module_here"], "no_such_module_here"),
        ],
    )
    def test_names_file_line_and_cure(self, pipeline, tmp_path, capsys, path, value, expected):
        config = changed(pipeline, tmp_path, path, value)
        message = complaint(capsys, "train", config, "--work-dir", tmp_path / "run")
        assert expected in message
        assert not (tmp_path / "run").exists()

    def test_a_missing_file(self, tmp_path, capsys):
        assert "no config" in complaint(capsys, "train", tmp_path / "none.yaml")

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("model: {type: FCOS", "1"),
            ("seed: 1\nseed: 2\n", "seed"),
            ("_base_: none.yaml\n", "none.yaml"),
            ("_base_: broken.yaml\n", "broken.yaml"),
        ],
    )
    def test_a_broken_file(self, tmp_path, capsys, text, expected):
        (tmp_path / "broken.yaml").write_text(text)
        assert expected in complaint(capsys, "config", "check", tmp_path / "broken.yaml")

    @pytest.mark.parametrize("words", ["seed", "seed=abc", "modle.type=FCOS", "model.type.x=1"])
    def test_a_bad_override(self, pipeline, capsys, words):
        assert complaint(capsys, "config", "check", pipeline.supernet, "--set", words)

    def test_no_gpu(self, pipeline, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        words = ["train", pipeline.supernet, "--work-dir", tmp_path / "x", "--set", "device=cuda"]
        assert "set device=cpu or auto" in complaint(capsys, *words)


class TestData:
    @pytest.mark.parametrize(
        ("dataset", "expected"),
        [
            ({"type": "VocDataset", "root": "none", "split": "a.txt", "classes": ["a"]}, "none"),
            (
                {"type": "VocDataset", "root": ".", "split": "none.txt", "classes": ["a"]},
                "none.txt",
            ),
            ({"type": "VocDataset", "root": ".", "split": "empty.txt", "classes": ["a"]}, "empty"),
            ({"type": "CocoDataset", "annotation": "bad.json", "images": "."}, "bad.json"),
            ({"type": "CocoDataset", "annotation": "none.json", "images": "."}, "none.json"),
            ({"type": "ShapesDataset", "classes": ["blob"]}, "blob"),
        ],
    )
    def test_names_what_is_missing(
        self, pipeline, tmp_path, capsys, monkeypatch, dataset, expected
    ):
        for folder in ("JPEGImages", "Annotations"):
            (tmp_path / folder).mkdir()
        (tmp_path / "empty.txt").write_text("")
        (tmp_path / "bad.json").write_text('{"images": [')
        monkeypatch.setenv("RAZORLITE_DATA", str(tmp_path))
        config = changed(pipeline, tmp_path, "data.train.dataset", dataset)
        message = complaint(capsys, "train", config, "--work-dir", tmp_path / "run")
        assert expected in message

    def test_no_test_split(self, pipeline, tmp_path, capsys):
        config = changed(pipeline, tmp_path, "data.test", None)
        subnet = pipeline.root / "search/subnet.yaml"
        words = ["test", config, pipeline.weights, "--subnet", subnet]
        assert "no data.test" in complaint(capsys, *words)


class TestCheckpoints:
    def test_missing(self, pipeline, tmp_path, capsys):
        message = complaint(capsys, "test", pipeline.subnet, tmp_path / "none.pt")
        assert "none.pt" in message

    def test_truncated(self, pipeline, tmp_path, capsys):
        torn = tmp_path / "torn.pt"
        torn.write_bytes(pipeline.trained.read_bytes()[:5000])
        assert "torn.pt" in complaint(capsys, "test", pipeline.subnet, torn)

    def test_text(self, pipeline, tmp_path, capsys):
        (tmp_path / "notes.pt").write_text("not a checkpoint")
        assert "notes.pt" in complaint(capsys, "test", pipeline.subnet, tmp_path / "notes.pt")

    def test_code_in_it_is_not_run(self, pipeline, tmp_path, capsys):
        class Trap:
            def __reduce__(self):
                return Path.touch, (tmp_path / "sprung",)

        torch.save({"model": Trap()}, tmp_path / "trap.pt", pickle_module=pickle)
        assert "trap.pt" in complaint(capsys, "test", pipeline.subnet, tmp_path / "trap.pt")
        assert not (tmp_path / "sprung").exists()

    def test_of_another_model(self, pipeline, tmp_path, capsys):
        torch.save({"model": {"fc.weight": torch.zeros(3)}}, tmp_path / "other.pt")
        message = complaint(capsys, "test", pipeline.subnet, tmp_path / "other.pt")
        assert "another model" in message

    def test_of_other_shapes(self, pipeline, capsys):
        message = complaint(
            capsys, "test", pipeline.subnet, pipeline.root / "prune/checkpoints/last.pt"
        )
        assert "does not fit" in message

    def test_supernet_without_a_path(self, pipeline, capsys):
        assert "--subnet" in complaint(capsys, "test", pipeline.supernet, pipeline.weights)

    def test_missing_teacher(self, pipeline, tmp_path, capsys):
        words = ["train", pipeline.distill, "--work-dir", tmp_path / "run"]
        words += ["--set", "distiller.teacher.checkpoint=none.pt"]
        assert "none.pt" in complaint(capsys, *words)

    def test_unknown_module_to_learn_from(self, pipeline, tmp_path, capsys):
        words = ["train", pipeline.distill, "--work-dir", tmp_path / "run"]
        message = complaint(capsys, *words, "--set", "distiller.pairs.0.student=nek")
        assert "neck" in message


class TestSubnets:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("choices: [", "subnet.yaml"),
            ("choices: {stage_0_block_0: shuffle_3x3}", "stage_"),
            ("stage_0_block_0: {chosen: [shuffle_9x9]}", "subnet.yaml"),
            ("backbone.layers.9.9: {chosen: shuffle_3x3}", "backbone.layers.9.9"),
        ],
    )
    def test_malformed(self, pipeline, tmp_path, capsys, text, expected):
        (tmp_path / "subnet.yaml").write_text(text)
        message = complaint(capsys, "cost", pipeline.supernet, "--subnet", tmp_path / "subnet.yaml")
        assert expected in message

    def test_unknown_choice_suggests_a_near_one(self, pipeline, tmp_path, capsys):
        text = (pipeline.root / "search/subnet.yaml").read_text()
        wrong = text.replace("shuffle_3x3", "shufle_3x3").replace("shuffle_xc", "shufle_xc")
        (tmp_path / "subnet.yaml").write_text(wrong)
        message = complaint(capsys, "cost", pipeline.supernet, "--subnet", tmp_path / "subnet.yaml")
        assert "shuffle_" in message

    def test_of_a_plain_model(self, pipeline, tmp_path, capsys):
        config = changed(pipeline, tmp_path, "mutator", None)
        message = complaint(
            capsys, "cost", config, "--subnet", pipeline.root / "search/subnet.yaml"
        )
        assert "mutator" in message


class TestBudgets:
    def test_search_names_the_reachable_range(self, pipeline, tmp_path, capsys):
        words = ["search", pipeline.supernet, pipeline.weights, "--work-dir", tmp_path / "run"]
        message = complaint(capsys, *words, "--set", "search.constraints.macs=1000")
        assert "reachable" in message
        assert not (tmp_path / "run").exists()

    def test_prune_names_the_reachable_range(self, pipeline, tmp_path, capsys):
        words = ["prune", pipeline.prune, pipeline.trained, "--work-dir", tmp_path / "run"]
        message = complaint(capsys, *words, "--set", "prune.budget.macs=1000")
        assert "reach" in message
        assert not (tmp_path / "run").exists()

    def test_prune_without_a_block(self, pipeline, capsys):
        assert "`prune` block" in complaint(capsys, "prune", pipeline.subnet, pipeline.trained)

    def test_search_without_a_supernet(self, pipeline, capsys):
        message = complaint(capsys, "search", pipeline.subnet, pipeline.trained)
        assert "no supernet" in message

    def test_unknown_metric(self, pipeline, tmp_path, capsys):
        words = ["search", pipeline.supernet, pipeline.weights, "--work-dir", tmp_path / "run"]
        words += ["--set", "search.trust=0"]
        assert "AP" in complaint(capsys, *words, "search.metric=APP")
        assert cli.main([str(word) for word in words]) == 0  # the corrected command

    def test_unknown_metric_to_choose_by(self, pipeline, tmp_path, capsys):
        words = ["train", pipeline.supernet, "--work-dir", tmp_path / "run"]
        for name in ("ap", "AP/round", "mAP"):
            message = complaint(capsys, *words, "--set", f"train.best_metric={name}")
            assert "train.best_metric" in message
        assert not (tmp_path / "run/metrics.jsonl").exists()
        assert cli.main([str(word) for word in words]) == 0  # the corrected command

    def test_search_on_the_test_images_is_refused(self, pipeline, tmp_path, capsys):
        config = changed(pipeline, tmp_path, "data.search", pipeline.tree["data"]["test"])
        words = ["search", config, pipeline.weights, "--work-dir", tmp_path / "run"]
        assert "allow_test_split" in complaint(capsys, *words)


class TestRunFolders:
    def test_a_used_folder_is_left_alone(self, pipeline, capsys):
        before = (pipeline.root / "supernet/metrics.jsonl").read_text()
        message = complaint(
            capsys, "train", pipeline.supernet, "--work-dir", pipeline.root / "supernet"
        )
        assert "--resume" in message
        assert (pipeline.root / "supernet/metrics.jsonl").read_text() == before

    def test_a_file_in_the_way(self, pipeline, tmp_path, capsys):
        (tmp_path / "run").write_text("mine")
        assert "run" in complaint(
            capsys, "train", pipeline.supernet, "--work-dir", tmp_path / "run"
        )
        assert (tmp_path / "run").read_text() == "mine"

    def test_a_full_disk(self, pipeline, tmp_path, capsys, monkeypatch):
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files.os, "fsync", full)
        message = complaint(capsys, "train", pipeline.supernet, "--work-dir", tmp_path / "run")
        assert "disk is full" in message

    def test_resuming_another_model(self, pipeline, tmp_path, capsys):
        config = changed(pipeline, tmp_path, "model.neck.out_channels", 8)
        tree = json.loads(json.dumps(pipeline.tree))
        tree["model"]["neck"]["out_channels"] = 8
        tree["model"]["bbox_head"]["in_channels"] = 8
        config = write(tree, tmp_path, "changed.yaml")
        folder = pipeline.root / "supernet"
        before = (folder / "checkpoints/last.pt").read_bytes()
        kept = (folder / "config.yaml").read_text()
        message = complaint(capsys, "train", config, "--work-dir", folder, "--resume")
        assert "last.pt" in message
        assert (folder / "config.yaml").read_text() == kept
        assert (folder / "checkpoints/last.pt").read_bytes() == before

    def test_a_loss_that_is_not_finite(self, pipeline, tmp_path, capsys):
        words = ["train", pipeline.supernet, "--work-dir", tmp_path / "run"]
        words += ["--set", "train.optimizer={type: SGD, lr: 1e20}", "--set", "train.max_steps=20"]
        assert "not finite" in complaint(capsys, *words)

    def test_a_bad_shape(self, pipeline, capsys):
        with pytest.raises(SystemExit) as ended:
            cli.main(["cost", str(pipeline.supernet), "--shape", "64", "big"])
        assert ended.value.code == 2
        assert "big" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_split_without_objects_is_refused_before_the_first_step(pipeline, tmp_path, capsys, part):
    files = coco(tmp_path, [], images=4, size=(64, 64))
    names = ["circle", "square", "triangle"]
    tree = json.loads(Path(files["annotation"]).read_text())
    tree["categories"] = [{"id": i, "name": name} for i, name in enumerate(names)]
    Path(files["annotation"]).write_text(json.dumps(tree))
    dataset = {"type": "CocoDataset", **files}
    config = changed(pipeline, tmp_path, f"data.{part}.dataset", dataset)
    message = complaint(capsys, "train", config, "--work-dir", tmp_path / "run")
    assert f"data.{part}: none of its" in message
    assert not (tmp_path / "run" / "config.yaml").exists()
