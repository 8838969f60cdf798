"""Frames of video files and cameras, by PyAV (the extra `video`)."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from razorlite.core.errors import DataError

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv"),
)
_CAMERAS = {  # platform to the name of its devices and the format that reads them
    "linux": ("/dev/video{}", "v4l2"),
    "darwin": ("{}", "avfoundation"),
    "win32": ("video={}", "dshow"),
}


def is_video(path: Path) -> bool:
    """Return whether a file is a video, by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def frames(source: Path | int) -> Iterator[np.ndarray]:
    """Yield the frames of a video file or camera, (H, W, 3) uint8 RGB, upright.

    Args:
        source: a video file, or the number of a camera, which never ends.

    Raises:
        DataError: PyAV is not installed.
        OSError: the video cannot be opened or, after the frames that can be read, goes on broken.
    """
    av = _package()
    try:
        with _opened(av, source) as video:
            for frame in video.decode(video=0):
                array: np.ndarray = frame.to_ndarray(format="rgb24")
                yield np.rot90(array, getattr(frame, "rotation", 0) // 90).copy()
    except (av.error.FFmpegError, IndexError) as error:  # IndexError: it has no pictures
        reason = getattr(error, "strerror", "") or "it has no pictures"
        raise OSError(f"it cannot be read as a video: {reason}") from error


def _opened(av: Any, source: Path | int) -> Any:
    if isinstance(source, Path):
        return av.open(str(source))
    name, kind = _CAMERAS.get(sys.platform, _CAMERAS["linux"])
    return av.open(name.format(source), format=kind)


def _package() -> Any:
    try:
        return import_module("av")
    except ImportError as error:
        raise DataError(
            "videos and cameras are read by PyAV; run: pip install 'razorlite[video]'"
        ) from error
