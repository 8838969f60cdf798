"""The C++ examples are built, and print the detections that Python gives."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from razorlite import recipes
from razorlite.data import Decoding, Preprocess
from razorlite.deploy import Deployed, export, open_file
from razorlite.deploy.runtimes import CLASSES_NAME
from razorlite.recipes import load
from tests.deploy.test_deploy import run  # noqa: F401  a fixture
from tests.deploy.test_formats import _two_stage, needs_onnx

SOURCE = Path(__file__).parents[2] / "examples" / "cpp"
NAMES = ("red cell", "white cell", "platelet")


def _called(*words: object) -> str:
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def programs(module_path: Path) -> Path:
    """The folder of both programs."""
    if not shutil.which("cmake") or not (shutil.which("c++") or shutil.which("g++")):
        pytest.skip("no cmake or no compiler for C++ on this machine")
    if sys.platform != "linux":
        pytest.skip("the examples are for Linux")
    pytest.importorskip("onnxruntime")
    words = [f"-DPYTHON={sys.executable}", "-DCMAKE_BUILD_TYPE=Debug"]  # built sooner
    _called("cmake", "-S", SOURCE, "-B", module_path, *words)
    _called("cmake", "--build", module_path, "--parallel", "2")
    return module_path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image of the size that the model's `Resize` gives, so that nothing is resized."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.ppm")
    return tmp_path / "image.ppm"


def _parsed(printed: str) -> list[tuple[str, Tensor]]:
    """Return the class and (5,) score and box of each line."""
    rows = [line.split("\t") for line in printed.splitlines()]
    return [(row[0], torch.tensor([float(value) for value in row[1:]])) for row in rows]


def _same(printed: str, expected: list[tuple[str, Tensor]]) -> None:
    found = _parsed(printed)
    assert [name for name, _ in found] == [name for name, _ in expected]
    for (_, one), (_, other) in zip(found, expected, strict=True):
        assert_close(one, other, atol=1e-3, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "name"), [("onnx", "m.onnx"), ("torchscript", "m.torchscript")]
)
def test_detections_equal_pythons(programs, run, image, tmp_path, program, name):  # noqa: F811
    if program == "onnx":
        needs_onnx()
    path = recipes.export(run, out=tmp_path / name).path
    (found,) = load(path)(image)
    best = float(found.detections.scores.median())  # so that the threshold matters
    expected = [
        (one["class"], torch.tensor([one["score"], *one["box"]]))
        for one in found.to_dict(best)["detections"]
    ]
    assert 5 < len(expected) < len(found.detections)
    detect = programs / f"detect_{program}"
    _same(_called(detect, path, image, f"{best:.9g}"), expected)
    broken = subprocess.run([detect, path, path], capture_output=True, text=True, check=False)
    assert broken.returncode == 1
    assert broken.stderr == f"error: {path} is no binary PPM (P6)\n"


@pytest.mark.slow
def test_regions_are_aligned_as_by_torchvision(programs, image, tmp_path):
    """Two-stage detectors call `roi_align`, which the example has of its own."""
    torch.manual_seed(0)
    path = tmp_path / "faster.torchscript"
    pixels = Decoding().read(image)[None].float()
    meta = {CLASSES_NAME: "\n".join(NAMES)}
    model = Deployed(_two_stage("faster"), Preprocess())
    export(model, path, format="torchscript", images=[pixels], meta=meta)
    boxes, scores, labels = (values[0] for values in open_file(path)(pixels))
    kept = (scores >= 0.35).nonzero().squeeze(1).tolist()
    assert len(kept) > 5
    expected = [(NAMES[labels[i]], torch.cat((scores[i : i + 1], boxes[i]))) for i in kept]
    _same(_called(programs / "detect_torchscript", path, image, 0.35), expected)
