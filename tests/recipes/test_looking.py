"""`razorlite browse` and `razorlite analyze`."""

import csv
import json

import pytest
from PIL import Image

from razorlite.cli import main
from razorlite.core.errors import ConfigError, DataError, RunFolderError
from razorlite.recipes import analyze, browse
from razorlite.recipes.looking import summary
from tests.data.helpers import coco

LINES = [
    {"kind": "train", "step": 10, "loss": 3.0, "seconds": 5.0},
    {"kind": "train", "step": 20, "loss": 2.0, "seconds": 9.0},
    {"kind": "eval", "step": 20, "epoch": 1, "AP": 0.2, "AP50": 0.6, "eval_seconds": 3.0},
    {"kind": "train", "step": 30, "loss": 1.0, "seconds": 1.0},  # resumed: the clock began anew
    {"kind": "train", "step": 40, "loss": 1.0, "seconds": 3.0},
    {"kind": "eval", "step": 40, "epoch": 2, "AP": 0.3, "AP50": 0.5, "eval_seconds": 3.0},
]


def write(folder, lines):
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_summary_by_hand():
    # 4 s and 2 s in 10 steps each: the median of 0.4 and 0.2
    assert summary(LINES) == {
        "steps": 40, "seconds_per_step": pytest.approx(0.3), "AP": 0.3, "AP50": 0.6,
    }  # fmt: skip


def test_runs_side_by_side(tmp_path, capsys):
    runs = [write(tmp_path / name, LINES) for name in ("a", "b")]
    command = ["analyze", *map(str, runs), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert "seconds per step" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out" / "runs.csv").open()))
    assert [row["loss"] for row in rows] == ["3.0", "2.0", "", "1.0", "1.0", ""] * 2
    assert Image.open(tmp_path / "out" / "runs.png").width > 500
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][str(runs[1])]["AP"] == 0.3


def test_analyze_refuses(tmp_path):
    with pytest.raises(RunFolderError, match=r"no metrics\.jsonl in .*nowhere"):
        analyze([tmp_path / "nowhere"], tmp_path / "out")
    with pytest.raises(RunFolderError, match="is empty"):
        analyze([write(tmp_path / "a", [])], tmp_path / "out")


def test_browse_shows_each_image_twice(pipeline, tmp_path):
    page = browse(pipeline.supernet, tmp_path / "look", images=3)
    text = page.read_text()
    files = sorted(file.name for file in page.parent.glob("*.png"))
    assert files == ["000.png", "001.png", "002.png"]
    assert all(f"src='{file}'" in text for file in files)
    assert all(Image.open(page.parent / file).width == 1600 for file in files)


def test_browse_refuses(pipeline, tmp_path):
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        browse(pipeline.supernet, tmp_path / "look", images=0)
    with pytest.raises(ConfigError, match="no `data` block"):
        browse({"model": {"type": "ResNet", "depth": 18}}, tmp_path / "look")
    assert not (tmp_path / "look").exists()


@pytest.fixture
def odd(tmp_path):
    """A configuration of four images: the first shows nothing, the second is gone."""
    made = coco(tmp_path, [(2, 6, 4, 20, 10), (3, 6, 4, 20, 10), (4, 6, 4, 20, 10)], images=4)
    (tmp_path / "images" / "2.jpg").unlink()
    dataset = {"type": "CocoDataset", "check_images": False, **made}
    return {
        "model": {"type": "ResNet", "depth": 18},
        "data": {"mean": [0, 0, 0], "std": [1, 1, 1], "train": {"dataset": dataset}},
    }


def test_browse_shows_images_without_objects(odd, tmp_path):
    page = browse(odd, tmp_path / "look", images=1)
    assert [file.name for file in page.parent.glob("*.png")] == ["000.png"]


@pytest.mark.parametrize("out", ["images", "images/../images"])
def test_browse_leaves_the_folder_of_the_images_alone(odd, tmp_path, out):
    before = sorted((tmp_path / "images").iterdir())
    with pytest.raises(DataError, match="holds training images"):
        browse(odd, tmp_path / out)
    assert sorted((tmp_path / "images").iterdir()) == before


def test_an_image_that_cannot_be_read_does_not_stop_browse(odd, tmp_path, caplog):
    browse(odd, tmp_path / "look", images=4)
    assert "2.jpg cannot be read: " in caplog.text
    assert len(list((tmp_path / "look").glob("*.png"))) == 3
