"""Reading image files of any kind as RGB, and which way up they are."""

import io
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from razorlite.core.distributed import is_main
from razorlite.core.ranges import Count, Positive, checked
from razorlite.data.files import regular_size

Size = tuple[int, int]
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".tga"),
)
_log = logging.getLogger(__name__)
_ENDINGS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_DEEP_COLOURS = re.compile(r"(RGB\w*|LA|CMYK);16")
_PROGRAMS = ("EPS", "WMF")  # Pillow starts an interpreter, or the system's drawing, to show them
_TRANSPOSED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_FLIPPED_X, _FLIPPED_Y = (2, 3, 6, 7), (3, 4, 7, 8)  # mirrored, once rows and columns are swapped
_STRIP = 1 << 24  # pixels converted at once, so that large images need no second copy


@dataclass(frozen=True)
class Header:
    """What the first bytes of an image file say.

    Attributes:
        size: (height, width) as stored.
        orientation: EXIF orientation, 1 when upright or unknown.
    """

    size: Size
    orientation: int

    @property
    def upright_size(self) -> Size:
        """(height, width) once the EXIF orientation is applied."""
        return self.size[::-1] if self.orientation in _TRANSPOSED else self.size


@checked
@dataclass(frozen=True)
class Decoding:
    """How the image files of a data set are read: as RGB, 8 bits a channel.

    Grey, palette and CMYK images become RGB and transparency is left out; of several pages or
    frames the first is taken. Of 16 bits a channel the upper eight count, floats from 0 to 1 become
    0 to 255. Images whose scale cannot be known (no more than 12 bits used of 16, other floats,
    values below 0) are refused unless `white` states it.

    Attributes:
        max_pixels: height times width of the largest image that is read; reading takes up to about
            16 bytes a pixel.
        orientation: what is done about an EXIF orientation that says mirrored, upside down or
            lying: "upright" applies it, "stored" does not; "auto" does not where the annotated
            height and width are those of the stored pixels alone, and applies it anywhere else, as
            annotation tools do.
        white: pixel value of grey images of more than 8 bits (12, 16 or 32 bits, floats) that
            becomes 255, for instance 4095 for 12 bits; above it all is white.
    """

    max_pixels: Count = 64_000_000
    orientation: Literal["auto", "upright", "stored"] = "auto"
    white: Positive | None = None

    def header(self, path: Path) -> Header:
        """Read size and orientation; decode the whole file only if that may fail later.

        That is where the file's end may be cut off, and where its pixels have more than 8 bits.

        Raises:
            OSError: the file is missing, no regular file, truncated, too large or no image.
        """
        with _opened(path, self.max_pixels) as image:
            deep_colour = _is_deep_colour(image)
            header = _header(image)
            if not _is_whole(path, image.format or ""):
                image.load()
            if _is_deep(image) or deep_colour:
                _pixels(image, self.white, deep_colour)
        return header

    def applies(self, header: Header, annotated: Size = (0, 0)) -> bool:
        """Return whether the EXIF orientation is applied.

        Args:
            header: of the image.
            annotated: (height, width) that the annotation states, (0, 0) where it does not.
        """
        if self.orientation != "auto":
            return self.orientation == "upright"
        return not (annotated == header.size and header.size != header.upright_size)

    def read(self, source: str | Path | IO[bytes], annotated: Size = (0, 0)) -> Tensor:
        """Decode an image file.

        Args:
            source: a path or an open binary file.
            annotated: (height, width) that the annotation states, (0, 0) where it does not.

        Returns:
            (3, H, W) uint8 RGB; memory is laid out channels last, which resizing likes best.

        Raises:
            OSError: as for `header`.
        """
        with _opened(source, self.max_pixels) as image:
            deep_colour = _is_deep_colour(image)  # before reading EXIF, which decodes PNGs
            header = _header(image)
            array = _pixels(image, self.white, deep_colour)
            turned = image.format == "TIFF"  # by Pillow
        if header.orientation != 1 and turned != self.applies(header, annotated):
            back = {6: 8, 8: 6}.get(header.orientation, header.orientation)
            array = upright(array, back if turned else header.orientation)
        return torch.from_numpy(array).permute(2, 0, 1)

    def convert(self, image: Image.Image) -> Tensor:
        """Return an image of Pillow as it lies, (3, H, W) uint8 RGB.

        Raises:
            OSError: its scale cannot be known.
        """
        return torch.from_numpy(_pixels(image, self.white, False)).permute(2, 0, 1)

    def decode(self, data: bytes) -> Tensor:
        """Decode an image file held in memory (see `read`)."""
        return self.read(io.BytesIO(data))


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Return (H, W, C) pixels as an EXIF orientation, 1 to 8, says that they are to be seen."""
    if orientation in _TRANSPOSED:
        array = array.swapaxes(0, 1)
    if orientation in _FLIPPED_X:
        array = array[:, ::-1]
    if orientation in _FLIPPED_Y:
        array = array[::-1]
    return np.ascontiguousarray(array)


def tell_orientations(source: str, turned: Sequence[str], stored: Sequence[str]) -> None:
    """Warn, in one line, that images have an EXIF orientation and what was made of it.

    Args:
        source: the data set.
        turned: images that are turned upright.
        stored: images that are left as their pixels are stored.
    """
    count = len(turned) + len(stored)
    if count and is_main():
        _log.warning(
            "%s: %d images have an EXIF orientation (mirrored, upside down or lying): %d are turned"
            " upright, %d stay as stored; the first is %s; decoding.orientation: upright or stored "
            "sets it for all", source, count, len(turned), len(stored), [*turned, *stored][0],
        )  # fmt: skip


@contextmanager
def _opened(source: str | Path | IO[bytes], max_pixels: int) -> Iterator[Image.Image]:
    """Open an image; whatever goes wrong with it, now or while it is used, is an OSError."""
    if max_pixels > (Image.MAX_IMAGE_PIXELS or max_pixels):
        Image.MAX_IMAGE_PIXELS = max_pixels  # a greater limit was asked for than Pillow has
    try:
        with _stream(source) as stream, Image.open(stream) as image:
            _check_kind(image, max_pixels)
            yield image
    except UnidentifiedImageError as error:
        raise OSError("it is no image of a known kind") from error
    except Image.DecompressionBombError as error:
        found = re.search(r"\d+", str(error))
        raise OSError(_too_large(found.group() if found else "its", max_pixels)) from error
    except OSError:
        raise
    except MemoryError as error:
        raise OSError("it does not fit into memory") from error
    except Exception as error:  # Pillow's plugins let through what their parsers meet
        raise OSError(f"{error or type(error).__name__}") from error


def _stream(source: str | Path | IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    """Open a file, which Pillow would map into memory: fatal where it is cut off meanwhile."""
    if not isinstance(source, str | Path):
        return nullcontext(source)
    if regular_size(source) == 0:
        raise OSError("the file is empty")
    return open(source, "rb")


def _check_kind(image: Image.Image, max_pixels: int) -> None:
    if image.format in _PROGRAMS:
        raise OSError(f"{image.format} is a drawing to be run, not pixels; save it as PNG")
    if image.format == "TIFF" and image.mode == "L" and _signed(image):
        raise OSError("signed grey values of 8 bits; save the image with unsigned ones")
    if min(image.size) < 1:
        raise OSError(f"it is {image.width} x {image.height} pixels large")
    if image.width * image.height > max_pixels:
        raise OSError(_too_large(f"{image.width} x {image.height}", max_pixels))


def _signed(image: Image.Image) -> bool:
    kinds = image.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, 1)  # type: ignore[attr-defined]
    return 2 in (kinds if isinstance(kinds, tuple) else (kinds,))


def _too_large(size: str, max_pixels: int) -> str:
    return (
        f"{size} pixels are more than decoding.max_pixels = {max_pixels}; cut it up, shrink it "
        f"with its annotation, or raise the limit"
    )


def _header(image: Image.Image) -> Header:
    size = (image.height, image.width)
    if image.format == "TIFF":  # newer Pillows give the upright size
        tags = image.tag_v2  # type: ignore[attr-defined]
        size = (int(tags[257]), int(tags[256]))
    return Header(size, _orientation(image))


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken EXIF says nothing; the pixels may be fine
        return 1
    return int(orientation) if orientation in range(1, 9) else 1


def _is_deep(image: Image.Image) -> bool:
    """Return whether a pixel is one number of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _is_deep_colour(image: Image.Image) -> bool:
    """Return whether colours of an image not yet decoded have 16 bits, of which Pillow takes 8."""
    return any(_DEEP_COLOURS.search(str(tile[3])) for tile in image.tile)  # type: ignore[attr-defined]


def _pixels(image: Image.Image, white: float | None, deep_colour: bool) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB."""
    image.load()
    if _is_deep(image):
        white = white or _white(image)
    array = np.empty((image.height, image.width, 3), dtype=np.uint8)
    for top, strip in _strips(image):
        rows = array[top : top + strip.height]
        rows[:] = _scaled(strip, white) if white and _is_deep(image) else np.asarray(_rgb(strip))
    if deep_colour and 0 < array.max() < 16:
        raise OSError("16 bits a channel, of which 12 are used at most; save the image with 8 bits")
    return array


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield an image's first row and the image, or where it is large one strip after the other."""
    rows = max(1, _STRIP // image.width)
    if image.height <= rows:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _white(image: Image.Image) -> float:
    """Return the value of white that goes without saying.

    Raises:
        OSError: there is none.
    """
    extremes = [
        (float(a.min()), float(a.max())) for a in (np.asarray(s) for _, s in _strips(image))
    ]
    low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
    least, expected, white = (4096, "16 bits", 65535.0) if image.mode != "F" else (0, "0 to 1", 1.0)
    if low >= 0 and high <= white and (high >= least or high == 0):
        return white
    raise OSError(
        f"grey values from {low:g} to {high:g} are not on the scale of {expected}; state white's "
        f"value as decoding.white, for instance 4095 for 12 bits, or save the image with 8 bits"
    )


def _scaled(image: Image.Image, white: float) -> np.ndarray:
    """Return (H, W, 1) uint8 of grey values of which `white` becomes 255."""
    values = np.asarray(image)
    if not float(values.min()) >= 0:  # NaN neither
        raise OSError("grey values below 0, or not finite; save the image with 8 bits")
    if image.mode != "F" and white == 65535:
        return (values >> 8).clip(max=255).astype(np.uint8)[..., None]
    shown = np.round(values.astype(np.float64) * (255 / white)).clip(0, 255)
    return shown.astype(np.uint8)[..., None]


def _is_whole(path: Path, kind: str) -> bool:
    """Return whether a file surely has its end; only for the kinds that are slow to decode."""
    with open(path, "rb") as file:
        head = file.read(8)
        size = file.seek(0, os.SEEK_END)
        file.seek(-min(64, size), os.SEEK_END)
        tail = file.read()
    if kind == "WEBP":
        return int.from_bytes(head[4:], "little") + 8 <= size
    if kind == "GIF":
        return tail.endswith(b";")
    return kind in _ENDINGS and _ENDINGS[kind] in tail
