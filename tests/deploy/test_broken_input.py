"""Odd and broken input through `razorlite predict`, by a checkpoint and by exported files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from razorlite import recipes
from razorlite.cli import main
from razorlite.core.errors import DataError
from tests.deploy.test_deploy import run  # noqa: F401  a fixture
from tests.deploy.test_formats import needs_onnx

SIZES = {  # height, width of what is predicted on
    "animated.gif": (64, 96),
    "cmyk.jpg": (64, 96),
    "deep.png": (64, 96),
    "deep8.png": (64, 96),
    "first.gif": (64, 96),
    "long.png": (10, 10000),
    "rgb.png": (64, 96),
    "rotated.jpg": (96, 64),
    "tall.png": (10000, 10),
    "upright.png": (96, 64),
    "dot.png": (1, 1),
}
FAULTS = {
    "clip.mp4": "cannot be read as a video",
    "cut.jpg": "truncated",
    "empty.png": "the file is empty",
    "text.jpg": "no image of a known kind",
}
SAME = [("animated.gif", "first.gif"), ("deep.png", "deep8.png"), ("rotated.jpg", "upright.png")]


@pytest.fixture(scope="module")
def odd(module_path: Path) -> Path:
    """A folder of images that are read, and of files that cannot be."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.convert("CMYK").save(module_path / "cmyk.jpg")
    image.convert("CMYK").convert("RGB").save(module_path / "rgb.png")
    grey = pixels[..., 0]
    Image.fromarray(grey.astype(np.uint16) * 257).save(module_path / "deep.png")
    Image.fromarray(grey).save(module_path / "deep8.png")
    _rotated(image, module_path)
    first, second = image.quantize(32), image.transpose(Image.Transpose.ROTATE_180).quantize(32)
    first.save(module_path / "animated.gif", save_all=True, append_images=[second])
    first.save(module_path / "first.gif")
    Image.new("RGB", (1, 1), "red").save(module_path / "dot.png")
    for name, (height, width) in (("long.png", (10, 10000)), ("tall.png", (10000, 10))):
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(module_path / name)
    whole = (module_path / "cmyk.jpg").read_bytes()
    (module_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (module_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + rng.bytes(500))
    (module_path / "empty.png").touch()
    (module_path / "text.jpg").write_text("not an image")
    return module_path


def _rotated(image: Image.Image, folder: Path) -> None:
    """Write an image that is to be turned clockwise, and one that is."""
    exif = Image.Exif()
    exif[274] = 6
    image.save(folder / "rotated.jpg", exif=exif, quality=100)
    with Image.open(folder / "rotated.jpg") as stored:
        stored.transpose(Image.Transpose.ROTATE_270).save(folder / "upright.png")


def _found(folder: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, dict]:
    words = ["predict", str(folder), "--model", str(model), "--json", "--score", "0.02"]
    assert main(words) == 1  # done, but for those that cannot be read
    shown = json.loads(capsys.readouterr().out)["images"]
    return {Path(one["image"]).name: one for one in shown}


def _check(found: dict[str, dict]) -> None:
    assert sorted(found) == sorted([*SIZES, *FAULTS])
    for name, size in SIZES.items():
        assert (found[name]["height"], found[name]["width"]) == size
        for one in found[name]["detections"]:
            x1, y1, x2, y2 = one["box"]
            assert 0 <= x1 <= x2 <= size[1]
            assert 0 <= y1 <= y2 <= size[0]
    for name, message in FAULTS.items():
        assert message in found[name]["fault"]
    for one, other in SAME:
        assert found[one]["detections"] == found[other]["detections"]
    assert found["cmyk.jpg"]["detections"]


def _same(found: dict[str, dict], known: dict[str, dict]) -> None:
    """Compare the scores of all that an exported file finds with those of the checkpoint."""
    for name in SIZES:
        one, other = ([d["score"] for d in x[name]["detections"]] for x in (found, known))
        assert one == pytest.approx(other, abs=1e-4)


@pytest.mark.slow
def test_by_a_checkpoint_and_torchscript(run, odd, tmp_path, capsys):  # noqa: F811
    pytest.importorskip("av")
    known = _found(odd, run, capsys)
    _check(known)
    path = recipes.export(run, out=tmp_path / "m.torchscript").path
    capsys.readouterr()
    found = _found(odd, path, capsys)
    _check(found)
    _same(found, known)


@pytest.mark.slow
def test_by_an_onnx_file(run, odd, tmp_path, capsys):  # noqa: F811
    pytest.importorskip("av")
    needs_onnx()
    path = recipes.export(run, out=tmp_path / "m.onnx").path
    capsys.readouterr()
    _check(_found(odd, path, capsys))


def test_nothing_that_can_be_read(run, odd, tmp_path, capsys):  # noqa: F811
    pytest.importorskip("av")
    words = ["predict", "--model", str(run)]
    (tmp_path / "none").mkdir()
    assert main([*words[:1], str(tmp_path / "none"), *words[1:]]) == 2
    assert "no image in folder" in capsys.readouterr().err
    assert main([*words[:1], str(odd / "clip.mp4"), *words[1:]]) == 2
    assert "none of 1 images could be read" in capsys.readouterr().err
    with pytest.raises(DataError, match="none of 2 images could be read"):
        recipes.predict([odd / "cut.jpg", odd / "empty.png"], run)
