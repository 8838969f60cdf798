"""`razorlite export --int8`: calibrated on training images, compared, and kept or not."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from razorlite import recipes
from razorlite.cli import main
from razorlite.core.errors import ConfigError, ExportError
from razorlite.deploy import open_file, read_meta
from razorlite.deploy.quantise import INT8_NAME
from razorlite.recipes import Inferencer, build_model, exporting, load
from razorlite.recipes.quantising import Quantised
from razorlite.recipes.splits import Splits
from tests.deploy.test_deploy import CONFIG
from tests.deploy.test_formats import needs_onnx

TRAIN = "  train: {dataset: {type: ShapesDataset, num_images: 12}}\n"
VAL = """  val:
    dataset: {type: ShapesDataset, num_images: 6}
    transforms: [{type: Resize, size: [64, 96]}]
"""
TRAINED = CONFIG.replace("  test: {", f"{TRAIN}{VAL}  test: {{").replace(
    "num_classes: 2", "num_classes: 3"
)


@pytest.fixture(scope="module")
def words(module_path) -> list[str]:
    """A configuration and weights drawn at random, as words of a command."""
    (module_path / "config.yaml").write_text(TRAINED + "metric: {type: CocoMetric}\n")
    torch.manual_seed(0)
    model = build_model(module_path / "config.yaml")
    nn.init.normal_(model.bbox_head.conv_cls.weight, std=0.5)
    torch.save(model.state_dict(), module_path / "weights.pt")
    return [str(module_path / "config.yaml"), str(module_path / "weights.pt")]


def measuring(monkeypatch, *values: float) -> list[float]:
    """Have files measure some AP, one after the other; return the values that are left."""
    left = list(values)
    monkeypatch.setattr(Splits, "evaluate", lambda *args: {"AP": left.pop(0)})
    return left


@pytest.mark.slow
def test_a_file_in_8_bits(words, tmp_path, capsys, monkeypatch):
    needs_onnx()
    exact, out = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    recipes.export(*words, out=exact)
    command = ["export", str(exact), "--int8", "--out", str(out), "--calibration", "5"]
    assert main([*command, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["precision"], shown["images"], shown["metric"]) == ("int8", 5, "AP")
    assert json.loads(read_meta(out)[INT8_NAME])["calibration_images"] == 5
    assert load(out).classes == load(exact).classes
    for size in ((1, 3, 64, 96), (4, 3, 80, 72)):
        images = torch.rand(size) * 255
        assert [x.shape for x in open_file(out)(images)] == [
            x.shape for x in open_file(exact)(images)
        ]
    lossless = measuring(monkeypatch, 0.5, 0.48, 0.495)
    command = ["export", str(exact), "--int8", "--out", str(tmp_path / "more.onnx")]
    assert main([*command, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    told = {"float": 0.5, "int8": 0.495}
    assert (shown["accuracy"], len(shown["floats"]), lossless) == (told, 1, [])
    assert json.loads(read_meta(tmp_path / "more.onnx")[INT8_NAME])["float"] == shown["floats"]
    before = out.read_bytes()
    measuring(monkeypatch, 0.5, *[0.48] * 99)
    with pytest.raises(
        ExportError, match=r"falls from 0.5000 to 0.4800, by 2.00 points, and 1 may"
    ):
        recipes.export(exact, int8=True, out=out)
    assert out.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"float.onnx", "int8.onnx", "more.onnx"}


def test_what_is_told():
    found = Quantised(
        path=Path("a.onnx"),
        images=9,
        floats=("neck",),
        distance=0.02,
        metric="AP",
        split="data.val",
        accuracy=(0.5, 0.49),
        milliseconds=(4.0, 5.0),
    )
    assert found.drop == pytest.approx(1)
    first, second, third, last = found.lines()
    assert "calibrated on 9 training images" in first
    assert "in float beside the last layers: neck" in first
    assert second == "AP on data.val: 0.5000 in float, 0.4900 in 8 bits (-1.00 points)"
    assert third == "one image, one thread: 4.0 ms in float, 5.0 ms in 8 bits"
    assert last == "INT8 is not faster here: ship the file in float"
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["milliseconds"] == {"float": 4.0, "int8": 5.0}
    assert plain["accuracy"] == {"float": 0.5, "int8": 0.49}
    unmeasured = replace(found, metric="", split="", accuracy=None)
    assert "the loss was not measured" in unmeasured.lines()[1]
    assert unmeasured.to_dict()["accuracy"] is None


def test_refusals(words, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ConfigError, match="int8 is a form of ONNX files, got format torchscript"):
        recipes.export(*words, int8=True, format="torchscript")
    with pytest.raises(ConfigError, match="calibration wants at least 1 image"):
        recipes.export(*words, int8=True, calibration=0)
    with pytest.raises(ConfigError, match="max_drop at least 0 points, got 8 and nan"):
        recipes.export(*words, int8=True, calibration=8, max_drop=float("nan"))
    exported = Inferencer.__new__(Inferencer)
    exported.path = tmp_path / "float.onnx"
    with monkeypatch.context() as patched:
        patched.setattr(exporting, "Inferencer", lambda *_, **__: exported)
        with pytest.raises(ConfigError, match=r"float\.onnx is one already; leave them out"):
            recipes.export(exported.path, int8=True, images=tmp_path)
    bare = tmp_path / "bare.yaml"
    bare.write_text(TRAINED.replace(TRAIN, ""))
    with pytest.raises(ConfigError, match=r"calibrated on training images, and the configuration"):
        recipes.export(bare, words[1], int8=True)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExportError, match="onnxruntime is not installed; run: pip install"):
        recipes.export(*words, int8=True)
