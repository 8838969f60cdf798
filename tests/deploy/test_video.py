"""Frames of videos: right ones, in order, and what ends one before its end."""

import sys

import numpy as np
import pytest

from razorlite.deploy import Prediction, count, pictures

av = pytest.importorskip("av")


@pytest.fixture
def clip(tmp_path):
    """Five grey frames, each brighter than the one before."""
    with av.open(str(tmp_path / "clip.mp4"), "w") as file:
        stream = file.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in (20, 70, 120, 170, 220):
            array = np.full((48, 64, 3), level, dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(array)))
        file.mux(stream.encode())
    return tmp_path / "clip.mp4"


def test_frames_in_order(clip):
    found = list(pictures(clip))
    assert [one.frame for one in found] == [0, 1, 2, 3, 4]
    assert {one.image.shape for one in found} == {(3, 48, 64)}
    levels = [float(one.image.float().mean()) for one in found]
    assert levels == pytest.approx([20, 70, 120, 170, 220], abs=4)
    assert {one.name for one in found} == {str(clip)}
    assert count(clip) is None


def test_broken_videos_are_named(clip, tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"nothing")
    (fault,) = pictures(tmp_path / "no.mp4")
    assert fault.image is None
    assert "cannot be read as a video" in fault.fault
    (camera,) = pictures(977)
    assert camera.name == "camera 977"
    assert camera.fault


def test_without_the_package(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (picture,) = pictures(clip)
    assert "pip install 'razorlite[video]'" in picture.fault


def test_frames_are_numbered_in_records():
    one = Prediction("clip.mp4", ("cell",), fault="broken", frame=7)
    assert one.to_dict() == {"image": "clip.mp4", "frame": 7, "fault": "broken"}
