"""`razorlite init`: a configuration from a folder, that passes the check and trains."""

import pytest
import yaml

from razorlite.cli import main
from razorlite.core.config import load
from razorlite.core.errors import DataError, RunFolderError
from razorlite.recipes import check_config, init
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
        f"wrote {out}; next: razorlite train {out} --work-dir runs/detector",
    ]
    merged = load(out)
    assert merged.get("model.bbox_head.num_classes") == 2
    assert merged.get("data.train.dataset.split") == {"fraction": 0.8, "part": "first"}
    assert merged.get("data.test.dataset.split")["part"] == "rest"
    # nine tenths of the objects keep 16 pixels at 240 x 320, the smallest size
    assert merged.get("shape") == [256, 320]
    assert check_config(out) == []


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
