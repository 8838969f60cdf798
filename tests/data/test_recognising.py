"""Formats told from folders as they come."""

import json
import shutil
from pathlib import Path

import pytest

from razorlite.core.errors import DataError
from razorlite.data.recognising import recognise
from tests.data.helpers import coco, save_image, voc

BOX = [(1, 6, 4, 20, 10)]


def test_coco_as_roboflow_exports_it(tmp_path):
    for split in ("train", "valid", "test"):
        made = coco(tmp_path / "made", BOX, images=1)
        target = tmp_path / "set" / split
        shutil.copytree(made["images"], target)
        shutil.copy(made["annotation"], target / "_annotations.coco.json")
    layout = recognise(tmp_path / "set")
    assert (layout.format, list(layout.splits)) == ("coco", ["train", "val", "test"])
    assert len(layout.open("val")) == 1


def test_coco_as_it_is_published(tmp_path):
    made = coco(tmp_path / "made", BOX, images=1)
    (tmp_path / "set" / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        shutil.copytree(made["images"], tmp_path / "set" / "images" / split)
        shutil.copy(made["annotation"], tmp_path / "set/annotations" / f"instances_{split}.json")
        shutil.copy(made["annotation"], tmp_path / "set/annotations" / f"captions_{split}.json")
    layout = recognise(tmp_path / "set")
    assert list(layout.splits) == ["train", "val"]
    assert len(layout.open("train")) == 1


def test_one_json_file(tmp_path):
    made = coco(tmp_path, BOX)
    assert list(recognise(made["annotation"]).splits) == ["all"]


def test_voc_with_and_without_split_files(tmp_path):
    made = voc(tmp_path, {"a": [("cat", 1, 2, 9, 9, 0)], "b": [("dog", 1, 2, 9, 9, 0)]})
    layout = recognise(made["root"])
    assert layout.splits["train"]["classes"] == ["cat", "dog"]
    assert layout.splits["train"]["split"] == "ImageSets/Main/train.txt"
    shutil.rmtree(tmp_path / "ImageSets")
    assert list(recognise(tmp_path).splits) == ["all"]
    assert len(recognise(tmp_path).open("all")) == 2


@pytest.mark.parametrize("names", [["all"], ["north", "south"]])
def test_voc_with_split_files_of_other_names(tmp_path, names):
    for name in names:
        voc(tmp_path, {name: [("cat", 1, 2, 9, 9, 0)]}, split=f"ImageSets/Main/{name}.txt")
    layout = recognise(tmp_path)
    assert list(layout.splits) == names
    assert [len(layout.open(name)) for name in names] == [1] * len(names)


@pytest.mark.parametrize(
    ("splits", "names"),
    [
        ([""], ["all"]),
        (["train", "val"], ["train", "val"]),
        (["Training", "validation", "Testing"], ["train", "val", "test"]),
        (["train", "val", "valid", "extra"], ["train", "val", "valid", "extra"]),
    ],
)
def test_class_folders(tmp_path, splits, names):
    for split in splits:
        for name in ("cat", "dog"):
            save_image(tmp_path / split / name / "1.jpg")
    layout = recognise(tmp_path)
    assert layout.format == "folders"
    assert sorted(layout.splits) == sorted(names)
    assert layout.open(next(iter(layout.splits))).classes == ("cat", "dog")


def test_what_is_none_of_them(tmp_path):
    save_image(tmp_path / "1.jpg")
    with pytest.raises(DataError, match="is in no known format; looked for"):
        recognise(tmp_path)
    with pytest.raises(DataError, match="there is no such file or folder"):
        recognise(tmp_path / "none")
    with pytest.raises(DataError, match="no split 'trian'; did you mean 'train'"):
        recognise(voc(tmp_path, {"a": [("cat", 1, 2, 9, 9, 0)]})["root"]).open("trian")


@pytest.mark.parametrize("text", ["[]", "{}", '{"annotations": [], "categories": []}'])
@pytest.mark.parametrize("name", ["some.json", "photo.jpg"])
def test_a_file_of_something_else(tmp_path, text, name):
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(DataError, match=f"{name} is in no known format; expected a data.yaml"):
        recognise(file)


def test_yolo_without_names(tmp_path):
    (tmp_path / "data.yaml").write_text("train: images\n")
    for source in (tmp_path, tmp_path / "data.yaml"):
        with pytest.raises(DataError, match=r"data\.yaml: names is None; expected class names"):
            recognise(source)


def test_another_yaml_file_is_no_yolo_set(tmp_path):
    (tmp_path / "environment.yaml").write_text("name: mine\nchannel_names: [a]\n")
    save_image(tmp_path / "cat" / "1.jpg")
    assert recognise(tmp_path).format == "folders"


@pytest.mark.parametrize("places", ["images/{}", "{}/images"])
@pytest.mark.parametrize("names", [("train", "val"), ("north", "south")])
def test_equal_file_names_of_several_json_files(tmp_path, places, names):
    """Each has the images of the folder that is called like it, not those found first."""
    (tmp_path / "set" / "annotations").mkdir(parents=True)
    for name in names:
        made = coco(tmp_path / "made" / name, BOX, images=1)
        shutil.copytree(made["images"], tmp_path / "set" / places.format(name))
        shutil.copy(made["annotation"], tmp_path / "set" / "annotations" / f"{name}.json")
    layout = recognise(tmp_path / "set")
    assert list(layout.splits) == list(names)
    for name in names:
        folder = tmp_path / "set" / places.format(name)
        assert layout.open(name).keys == [str(folder / "1.jpg")]


def test_a_folder_is_told_by_more_than_the_first_image(tmp_path):
    made = coco(tmp_path / "set", BOX, images=2)
    (tmp_path / "set" / "images" / "1.jpg").unlink()
    layout = recognise(tmp_path / "set")
    assert layout.splits["all"]["images"] == made["images"]


def test_json_files_of_one_name_are_all_there(tmp_path):
    for name in ("a", "b"):
        made = coco(tmp_path / "made", BOX, images=1)
        shutil.copytree(made["images"], tmp_path / "set" / name)
        shutil.copy(made["annotation"], tmp_path / "set" / name / "labels.json")
    layout = recognise(tmp_path / "set")
    assert list(layout.splits) == ["a_labels", "b_labels"]
    assert [len(layout.open(name)) for name in layout.splits] == [1, 1]


CAT = [("cat", 1, 2, 9, 9, 0)]


def test_voc_sets_beside_each_other(tmp_path):
    """Folders named like splits are those; of others none is taken silently for all."""
    for name in ("train", "val"):
        voc(tmp_path / "set" / name, {name: CAT})
        shutil.rmtree(tmp_path / "set" / name / "ImageSets")
    layout = recognise(tmp_path / "set")
    assert [layout.open(name).names for name in ("train", "val")] == [["train.jpg"], ["val.jpg"]]
    (tmp_path / "set" / "val").rename(tmp_path / "set" / "VOC2012")
    with pytest.raises(DataError, match="holds several VOC sets: VOC2012, train; name one of"):
        recognise(tmp_path / "set")


def test_voc_files_of_several_folders_beside_their_images(tmp_path):
    for name in ("a", "b"):
        voc(tmp_path / name, {"1": CAT}, folders=("", ""), split="../lists/x.txt")
    layout = recognise(tmp_path)
    assert layout.open("all").names == ["a/1.jpg", "b/1.jpg"]


def test_splits_that_hold_no_classes_are_no_classes(tmp_path):
    """YOLO's folders without a data.yaml."""
    for split in ("train", "val"):
        save_image(tmp_path / split / "images" / "1.jpg")
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels" / "1.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(DataError, match="is in no known format"):
        recognise(tmp_path)


def test_what_a_model_has_found_is_no_annotation(tmp_path):
    """`predict` and `test` may have written it beside the images."""
    made = coco(tmp_path / "set", BOX)
    tree = json.loads(Path(made["annotation"]).read_text())
    (tmp_path / "set" / "found").mkdir()
    scored = {**tree, "annotations": [{**one, "score": 0.5} for one in tree["annotations"]]}
    (tmp_path / "set" / "found" / "coco.json").write_text(json.dumps(scored))
    tested = {**tree, "detections": []}
    (tmp_path / "set" / "found" / "detections.json").write_text(json.dumps(tested))
    assert list(recognise(tmp_path / "set").splits) == ["all"]
    assert list(recognise(tmp_path / "set" / "found" / "coco.json").splits) == ["all"]
