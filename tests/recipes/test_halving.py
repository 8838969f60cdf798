"""`razorlite export --half`: files in 16 bits, compared with the one in float, timed, and told."""

from pathlib import Path

import pytest
import torch
from torch import nn

from razorlite import recipes
from razorlite.core.errors import ConfigError, ExportError
from razorlite.deploy import open_file, read_meta
from razorlite.deploy.export import OPSET
from razorlite.deploy.half import HALF_NAME
from razorlite.deploy.layer_file import write_layer
from razorlite.recipes.halving import Halved, write_half

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def exact(tmp_path: Path) -> Path:
    """A file of one convolution, of images of 8 x 8."""
    torch.manual_seed(0)
    path = tmp_path / "float.onnx"
    write_layer(nn.Conv2d(3, 4, 3, padding=1), path, torch.rand(1, 3, 8, 8), opset=OPSET)
    return path


def test_weights_are_halved_and_outputs_stay_float32(exact, tmp_path):
    images, out = torch.rand(1, 3, 8, 8), tmp_path / "half.onnx"
    result = write_half(exact, out, [images], (8, 8))
    assert 0 < result.distance < 0.01
    kinds = {x.name: x.data_type for x in onnx.load(str(out)).graph.initializer}
    assert set(kinds.values()) == {onnx.TensorProto.FLOAT16}
    (close,) = open_file(out)(images)
    (whole,) = open_file(exact)(images)
    assert close.dtype == torch.float32
    torch.testing.assert_close(close, whole, rtol=1e-2, atol=1e-2)
    assert HALF_NAME in read_meta(out)
    assert {p.name for p in tmp_path.iterdir()} == {"float.onnx", "half.onnx"}


def test_a_file_that_finds_something_else_is_not_kept(exact, tmp_path, monkeypatch):
    monkeypatch.setattr("razorlite.recipes.halving.apart", lambda *_: 0.5)
    with pytest.raises(ExportError, match=r"50.0% apart .* more than 10%; no file is kept"):
        write_half(exact, tmp_path / "half.onnx", [torch.rand(1, 3, 8, 8)], (8, 8))
    assert [p.name for p in tmp_path.iterdir()] == ["float.onnx"]


def test_what_is_told():
    found = Halved(Path("a.onnx"), 0.02, (2**21, 2**20), (4.0, 5.0))
    first, second, last = found.lines()
    assert first == ("wrote a.onnx (float16): 1.0 MiB for 2.0; what both files find is 2.0% apart")
    assert second == "one image, one thread: 4.0 ms in float32, 5.0 ms in float16"
    assert last == "FP16 is not faster here: it only halves the file"
    plain = found.to_dict()
    assert plain["precision"] == "float16"
    assert list(plain["sizes"]) == list(plain["milliseconds"]) == ["float32", "float16"]
    assert len(Halved(Path("a.onnx"), 0.0, (2, 1), (5.0, 4.0)).lines()) == 2


def test_one_precision_at_a_time():
    with pytest.raises(ConfigError, match="int8 or in half precision"):
        recipes.export("x", int8=True, half=True)
    with pytest.raises(ConfigError, match="half is a form of ONNX files, got format torchscript"):
        recipes.export("x", half=True, format="torchscript")
