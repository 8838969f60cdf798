"""`razorlite init`: a configuration from a folder, that passes the check and trains."""

import json
import re
import shutil

import pytest
import yaml

from razorlite.cli import main
from razorlite.core.config import load
from razorlite.core.errors import DataError, RunFolderError
from razorlite.data.anchor_fitting import Anchors, Fit
from razorlite.recipes import beginning, check_config, init
from razorlite.recipes.anchoring import FittedAnchors
from tests.data.helpers import coco, voc

CAT, DOG = ("cat", 80, 100, 320, 260, 0), ("dog", 10, 10, 90, 90, 0)
SIZE = (300, 400)


@pytest.fixture
def source(tmp_path):
    voc(tmp_path / "voc", {f"{i}": [CAT, DOG] for i in range(10)}, size=SIZE)
    (tmp_path / "voc" / "ImageSets" / "Main" / "train.txt").unlink()
    return tmp_path / "voc"


def test_a_folder_without_splits_is_divided(source, tmp_path, capsys):
    out = tmp_path / "mine.yaml"
    assert main(["init", str(source), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2 classes: cat, dog",
        "images are resized to 256 x 320 (height x width); 300 x 400 is the commonest size, scaled "
        "down, to 320 to 640 pixels on the longer side, as far as nine tenths of the objects keep "
        "16 pixels a side; --size, and `size` in the file, change it",
        f"wrote {out}; next: razorlite train {out} --work-dir runs/detector",
    ]
    merged = load(out)
    assert merged.get("model.bbox_head.num_classes") == 2
    assert merged.get("data.train.dataset.split") == {"fraction": 0.8, "part": "first"}
    assert merged.get("data.test.dataset.split")["part"] == "rest"
    held_out = 10 - int(re.search(r"train (\d+) images", out.read_text())[1])
    assert 0 < held_out < 10
    assert f"val {held_out} images, test {held_out} images" in out.read_text()
    # nine tenths of the objects keep 16 pixels at 240 x 320, the smallest size
    assert merged.get("shape") == [256, 320]
    assert "# Images are resized to 256 x 320 (height x width); 300 x 400 is" in out.read_text()
    assert check_config(out) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", ["retinanet/retinanet_r18_fpn_1x_coco", "faster_rcnn/faster_rcnn_r50_fpn_1x_coco"]
)
def test_other_models_get_the_classes(source, tmp_path, model):
    out = tmp_path / "mine.yaml"
    init(source, out, model=model, size=(96, 128))
    merged = yaml.safe_load(out.read_text())
    assert "max_epochs" not in merged.get("train", {})  # the base's milestones belong to its own
    assert _found(merged["model"]) == [2]
    assert load(out).get("data.val.transforms.0.size") == [96, 128]
    assert "# Anchors fitted to 18 boxes; recall at IoU 0.5 " in out.read_text()
    assert "anchor_generator" in str(merged["model"])


@pytest.mark.parametrize(
    ("mean", "recall", "better"), [(0.64, 0.84, False), (0.66, 0.8, True), (0.6, 0.86, True)]
)
def test_anchors_are_taken_where_they_are_clearly_better(mean, recall, better):
    anchors = Anchors((8,), (4.0,), (0.5, 2.0))
    before, after = (Fit(anchors, m, {0.5: r}) for m, r in ((0.6, 0.8), (mean, recall)))
    fitted = FittedAnchors("model.bbox_head.anchor_generator", 9, before, after)
    assert fitted.clearly_better == better
    block = beginning._model_lines({"bbox_head": {"num_classes": 3}}, fitted if better else None)
    tree = yaml.safe_load("\n".join(block))["model"]["bbox_head"]
    assert tree["num_classes"] == 3
    assert ("anchor_generator" in tree) == better


def _found(tree):
    own = [tree["num_classes"]] if "num_classes" in tree else []
    return own + [n for value in tree.values() if isinstance(value, dict) for n in _found(value)]


def test_splits_that_are_there_are_taken(tmp_path):
    made = {f"{i}": [CAT] for i in range(3)}
    for split in ("train", "val"):
        voc(tmp_path / "voc", made, split=f"ImageSets/Main/{split}.txt", size=SIZE)
    init(tmp_path / "voc", tmp_path / "mine.yaml")
    merged = load(tmp_path / "mine.yaml")
    assert merged.get("data.test.dataset.split") == "ImageSets/Main/val.txt"


def test_refusals(source, tmp_path):
    made = coco(tmp_path / "coco", [(1, 6, 4, 20, 10)])["annotation"]
    with pytest.raises(DataError, match=r"expected train and val; divide it with razorlite data"):
        init(made, tmp_path / "mine.yaml")
    (tmp_path / "there.yaml").touch()
    with pytest.raises(RunFolderError, match="is there already"):
        init(source, tmp_path / "there.yaml")
    with pytest.raises(DataError, match="no such file or folder"):
        init(tmp_path / "nowhere", tmp_path / "mine.yaml")
    assert not (tmp_path / "mine.yaml").exists()


def test_a_model_of_ones_own_and_a_file_in_another_folder(source, tmp_path, monkeypatch):
    (tmp_path / "my base: 1.yaml").write_text("_base_: fcos/fcos_shufflenetv2_bccd\n")
    monkeypatch.chdir(tmp_path)
    init(source, "made/here/mine.yaml", model="my base: 1.yaml")
    merged = load("made/here/mine.yaml")
    assert merged.get("model.bbox_head.num_classes") == 2
    assert merged.get("data.train.dataset.root") == "voc"  # in the current folder
    monkeypatch.setenv("RAZORLITE_DATA", str(tmp_path / "made"))
    (tmp_path / "made" / "voc").mkdir()  # another one, which the name would lead to
    init(source, "made/other.yaml")
    assert load("made/other.yaml").get("data.train.dataset.root") == str(source)


@pytest.mark.parametrize("names", [["cat"], ["dog", "cat"], ["cat", "cow"]])
def test_splits_with_other_lists_of_classes(tmp_path, names):
    """Labels are matched by name; objects that train knows nothing of are not left out silently."""
    for split, own in (("train", ["cat", "dog"]), ("val", names)):
        made = coco(tmp_path / "made" / split, [], size=SIZE)
        tree = json.loads((tmp_path / "made" / split / "annotations.json").read_text())
        tree["categories"] = [{"id": i, "name": name} for i, name in enumerate(own)]
        tree["annotations"] = [
            {"id": i, "image_id": 1, "category_id": i, "bbox": [80, 100, 90, 90]}
            for i in range(len(own))
        ]
        shutil.copytree(made["images"], tmp_path / "set" / split)
        (tmp_path / "set" / split / "labels.json").write_text(json.dumps(tree))
    out = tmp_path / "mine.yaml"
    if "cow" in names:
        with pytest.raises(DataError, match=r"the split val of .* has objects of \['cow'\], which"):
            init(tmp_path / "set", out)
        assert not out.exists()
    else:
        init(tmp_path / "set", out)
        assert load(out).get("data.train.dataset.classes") == ["cat", "dog"]
