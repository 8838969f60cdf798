"""`razorlite data …` as a user runs it."""

import json

import pytest

from razorlite.cli import main
from razorlite.data import _json
from razorlite.recipes.datasets import convert_data
from tests.data.helpers import save_image, voc

CAT = ("cat", 8, 10, 32, 26, 0)


@pytest.fixture
def source(tmp_path):
    images = {f"{i}": [CAT, ("dog", 1, 1, 9, 9, int(i == 0))] for i in range(10)}
    voc(tmp_path / "source", images)
    return tmp_path / "source"


def test_check(source, capsys):
    assert main(["data", "check", str(source)]) == 0
    assert capsys.readouterr().out == "nothing found\n"
    voc(source, {"0": [CAT], "x": [CAT]}, split="ImageSets/Main/val.txt")
    save_image(source / "JPEGImages" / "x.jpg", seed=99)
    assert main(["data", "check", str(source)]) == 1
    output = capsys.readouterr()
    assert output.out.startswith("  1  error    train, val: 1 images are in both")
    assert output.err == "1 of the 2 findings are errors\n"
    assert main(["data", "check", str(source), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["schema_version"] == 1
    assert [one["severity"] for one in found["findings"]] == ["error", "warning"]


def test_stats(source, capsys):
    assert main(["data", "stats", str(source), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["train"]["objects"] == {
        "cat": 10, "dog": 9,
    }  # fmt: skip
    assert main(["data", "stats", str(source)]) == 0
    assert "dog" in capsys.readouterr().out


def test_convert_and_split(source, tmp_path, capsys, caplog):
    command = ["data", "convert", str(source), "--to", "yolo", "--out", str(tmp_path / "yolo")]
    assert main(command) == 0
    assert "train: 10 images, 20 objects" in capsys.readouterr().out
    assert "YOLO files cannot hold 1 objects marked as crowd or difficult" in caplog.text
    assert main(command) == 2
    assert "name a new or an empty folder" in capsys.readouterr().err
    words = ["data", "split", str(tmp_path / "yolo"), "--out", str(tmp_path / "parts"), "--link"]
    assert main([*words, "--fractions", "train=0.8", "val=0.2"]) == 0
    assert (tmp_path / "parts" / "data.yaml").is_file()
    assert "train: 8 images" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["check"], ["stats"], ["convert", "--to", "yolo", "--out", "y"]])
def test_a_coco_file_is_read_once(words, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    convert_data(source, "coco", to="coco")
    read = []
    text = _json._text
    monkeypatch.setattr(_json, "_text", lambda path: read.append(path.name) or text(path))
    action, *more = words
    assert main(["data", action, "coco", *more]) == 0
    assert read == ["train.json"]


@pytest.mark.parametrize("words", [["check", "nowhere"], ["stats", "nowhere"]])
def test_a_wrong_path_is_one_line(words, capsys):
    assert main(["data", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("share", ["train", "train=x", "=1", "a/b=1"])
def test_a_wrong_share(share, capsys):
    with pytest.raises(SystemExit):
        main(["data", "split", "x", "--out", "y", "--fractions", share])
    assert "wants NAME=SHARE such as train=0.8" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["convert", "--to", "coco"], ["split"]])
def test_a_copy_within_the_source_is_refused(source, words, capsys):
    action, *more = words
    assert main(["data", action, str(source), "--out", str(source / "new"), *more]) == 2
    assert "whose images and annotations it would double; name" in capsys.readouterr().err
    assert not (source / "new").exists()
