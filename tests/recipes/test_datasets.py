"""`razorlite data …` as a user runs it."""

import json
import shutil

import pytest
from PIL import Image

from razorlite.cli import main
from razorlite.cli.command import SCHEMA_VERSION
from razorlite.data import json_files
from razorlite.recipes.datasets import convert_data, data_stats, split_data
from tests.data.helpers import save_image, voc

CAT = ("cat", 8, 10, 32, 26, 0)


@pytest.fixture
def source(tmp_path):
    images = {f"{i}": [CAT, ("dog", 1, 1, 9, 9, int(i == 0))] for i in range(10)}
    voc(tmp_path / "source", images)
    return tmp_path / "source"


def test_check(source, capsys):
    assert main(["data", "check", str(source)]) == 0
    assert capsys.readouterr().out == "no faults found\n"
    voc(source, {"0": [CAT], "x": [CAT]}, split="ImageSets/Main/val.txt")
    save_image(source / "JPEGImages" / "x.jpg", seed=99)
    assert main(["data", "check", str(source)]) == 1
    output = capsys.readouterr()
    assert output.out.startswith("  1  error    train, val: 1 images are in both")
    assert output.err == "1 of the 2 findings are errors\n"
    assert main(["data", "check", str(source), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["schema_version"] == SCHEMA_VERSION
    assert [one["severity"] for one in found["findings"]] == ["error", "warning"]


def test_annotations_in_two_formats_are_told(source, tmp_path, capsys):
    words = ["data", "convert", str(source), "--to", "coco", "--out", str(tmp_path / "coco")]
    assert main(words) == 0
    source.rename(tmp_path / "coco" / "before")
    capsys.readouterr()
    assert main(["data", "check", str(tmp_path / "coco")]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert "note" in line
    assert "these are in the format coco; what is there in voc, too, is not looked at" in line


def test_convert_takes_what_is_chosen_of_several_kinds(source, tmp_path, capsys, caplog):
    """Images and xml files, and PNGs of masks that number other objects."""
    shutil.copytree(source / "JPEGImages", source / "images")
    (source / "masks").mkdir()
    for image in (source / "images").iterdir():
        with Image.open(image) as picture:
            Image.new("L", picture.size, 1).save(source / "masks" / f"{image.stem}.png")

    def converted(*words):
        out = tmp_path / "-".join(["out", *words])
        command = ["data", "convert", str(source), "--to", "coco", "--out", str(out), *words]
        assert main(command) == 0
        return capsys.readouterr().out

    assert "train: 10 images, 20 objects" in converted()
    assert "what is there of voc is taken, and masks, too, is not looked at" in caplog.text
    caplog.clear()
    assert "train: 10 images, 20 objects" in converted("--from", "voc")
    assert "--from" not in caplog.text
    assert "all: " in converted("--from", "masks")
    words = ["data", "convert", str(source), "--to", "coco", "--out", str(tmp_path / "none")]
    for kind, message in (("yolo", "in the format yolo"), ("cvat", "of the kind cvat")):
        assert main([*words, "--from", kind]) == 2
        assert message in capsys.readouterr().err


def test_the_tools_that_convert_does_not_take_are_told(tmp_path, caplog):
    source = tmp_path / "labelled"
    source.mkdir()
    for name in "ab":
        save_image(source / f"{name}.png", seed=1)
    box = {"label": "cat", "points": [[1, 2], [9, 8]], "shape_type": "rectangle"}
    tree = {"shapes": [box], "imagePath": "a.png", "imageHeight": 40, "imageWidth": 60}
    (source / "a.json").write_text(json.dumps(tree))
    (source / "obj.names").write_text("cat\n")
    (source / "b.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    words = ["data", "convert", str(source), "--to", "coco", "--out"]
    assert main([*words, str(tmp_path / "usual")]) == 0
    assert "what is there of labelme is taken, and darknet, too, is not looked at" in caplog.text
    caplog.clear()
    assert main([*words, str(tmp_path / "chosen"), "--from", "darknet"]) == 0
    assert "is taken" not in caplog.text


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
    text = json_files._text
    monkeypatch.setattr(json_files, "_text", lambda path: read.append(path.name) or text(path))
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


@pytest.mark.parametrize("words", [["convert", "--to", "coco"], ["split"], ["stats"]])
def test_what_is_dropped_is_told(source, words, tmp_path, caplog):
    (source / "JPEGImages" / "3.jpg").unlink()
    action, *more = words
    out = [] if action == "stats" else ["--out", str(tmp_path / "out")]
    assert main(["data", action, str(source), *out, *more]) == 0
    assert "9 images and 18 objects kept; faults: 1 x missing image" in caplog.text


def test_masks_of_a_format_without(source, tmp_path, capsys):
    words = ["convert", str(source), "--to", "coco", "--masks", "--out", str(tmp_path / "out")]
    assert main(["data", *words]) == 2
    assert "is in the format voc, without masks; leave them out" in capsys.readouterr().err


def test_splits_of_other_orders_of_classes_are_joined_by_name(tmp_path):
    """Category 1 of train is a cat, of val a dog."""
    for split, names in (("train", ("cat", "dog")), ("val", ("dog", "cat"))):
        cat = 1 + names.index("cat")
        for index in range(2):
            save_image(tmp_path / "set" / split / f"{split}{index}.png", seed=len(split) + index)
        tree = {
            "images": [
                {"id": i, "file_name": f"{split}{i}.png", "height": 40, "width": 60}
                for i in range(2)
            ],
            "categories": [{"id": i, "name": name} for i, name in enumerate(names, start=1)],
            "annotations": [
                {"id": i, "image_id": i, "category_id": cat, "bbox": [1, 1, 9, 9]} for i in range(2)
            ],
        }
        (tmp_path / "set" / split / "labels.json").write_text(json.dumps(tree))
    halves, both = {"a": 0.5, "b": 0.5}, ("train", "val")
    split_data(tmp_path / "set", tmp_path / "out", halves, of=both)
    counts = data_stats(tmp_path / "out")
    assert {name: own.objects for name, own in counts.items()} == {
        name: {"cat": 2, "dog": 0} for name in ("a", "b")
    }


def test_images_of_several_splits_are_told(source, tmp_path, caplog):
    voc(source, {"0": [CAT]}, split="ImageSets/Main/val.txt")
    written = split_data(source, tmp_path / "out", {"a": 0.5, "b": 0.5}, of=["train", "val"])
    assert sum(written.images.values()) == 10
    assert "1 images are in several splits; each is taken once" in caplog.text


def test_splits_are_mixed_only_where_they_are_named(source, tmp_path, caplog, capsys):
    voc(source, {"100": [CAT], "101": [CAT]}, split="ImageSets/Main/test.txt")
    caplog.set_level("INFO")
    words = ["data", "split", str(source), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "--of train test for all of them, --of train for one" in capsys.readouterr().err
    assert main([*words, "--of", "val"]) == 2
    assert "has no split 'val'; it has train, test" in capsys.readouterr().err
    assert main([*words, "--of", "train"]) == 0
    assert f"dividing train of {source}, without test" in caplog.text
    assert sum(own.images for own in data_stats(tmp_path / "out").values()) == 10
