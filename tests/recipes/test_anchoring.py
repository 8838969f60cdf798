"""razorlite data anchors."""

import json

import pytest
from PIL import Image

from razorlite import cli, recipes
from razorlite.core.errors import ConfigError, RunFolderError
from razorlite.recipes.anchoring import fit_config_anchors


@pytest.fixture
def config(tmp_path):
    """A RetinaNet over images of tall boxes."""
    images, entries = [], []
    for number in range(6):
        Image.new("RGB", (160, 120)).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 160, "height": 120})
        box = [20 + 9 * number, 10 + number, 12 + number, 90]
        entries.append({"id": number + 1, "image_id": number, "category_id": 1, "bbox": box})
    tree = {"images": images, "categories": [{"id": 1, "name": "pole"}], "annotations": entries}
    (tmp_path / "truth.json").write_text(json.dumps(tree))
    text = (
        "_base_: retinanet/retinanet_r18_fpn_1x_coco\nshape: [240, 320]\ndata:\n  train:\n"
        f"    dataset: {{annotation: {tmp_path}/truth.json, images: {tmp_path}}}\n"
    )
    (tmp_path / "poles.yaml").write_text(text)
    return tmp_path / "poles.yaml"


def test_the_written_configuration_has_the_fitted_anchors(config, tmp_path, capsys):
    out = tmp_path / "fitted.yaml"
    assert cli.main(["data", "anchors", str(config), "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["key"] == "model.bbox_head.anchor_generator"
    assert found["boxes"] == 6
    assert found["after"]["mean_iou"] > found["before"]["mean_iou"]
    assert out.read_text().startswith("# Anchors fitted to 6 boxes; recall at IoU 0.5 ")
    merged = recipes.load_config(out)
    anchors = merged.get("model.bbox_head.anchor_generator")
    assert anchors["ratios"] == found["after"]["ratios"]
    assert len(anchors["scales"]) == 3
    # of the same number at a cell: the model keeps its weights
    again = fit_config_anchors(out)
    assert again.before.to_dict() == found["after"]


def test_the_written_configuration_keeps_overrides(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["data", "anchors", config.name, "--out", "fitted.yaml", "--set", "shape=[120, 160]"]
    assert cli.main(words) == 0
    whole = recipes.load_config(config, ["shape=[120, 160]"]).tree
    fitted = recipes.load_config("fitted.yaml").tree
    assert fitted["shape"] == [120, 160]
    assert len(fitted["model"]["bbox_head"].pop("anchor_generator")["scales"]) == 3
    assert fitted == whole


def test_a_detector_without_anchors():
    with pytest.raises(ConfigError, match="FCOS has no anchors to fit"):
        fit_config_anchors("fcos/fcos_shufflenetv2_bccd")


def test_a_file_is_not_overwritten(config):
    with pytest.raises(RunFolderError, match="is there already"):
        fit_config_anchors(config, out=config)
