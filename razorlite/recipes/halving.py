"""From an exported file to one that computes in 16 bits: compared, timed, and kept."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from razorlite.core.errors import ExportError
from razorlite.deploy import open_file
from razorlite.deploy.half import halve
from razorlite.deploy.sensitivity import TOLERANCE, apart
from razorlite.deploy.timing import processor_milliseconds

_log = logging.getLogger("razorlite")


@dataclass(frozen=True)
class Halved:
    """A file in 16 bits beside the one in float that it was made of.

    Attributes:
        path: the file.
        distance: of what both find, see `razorlite.deploy.sensitivity.apart`.
        sizes: bytes of the file in float and of the one in 16 bits.
        milliseconds: of the processor, for one image with one thread, of both likewise.
    """

    path: Path
    distance: float
    sizes: tuple[int, int]
    milliseconds: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        names = ("float32", "float16")
        return {
            "format": "onnx",
            "precision": "float16",
            "path": str(self.path),
            "distance": self.distance,
            "sizes": dict(zip(names, self.sizes, strict=True)),
            "milliseconds": dict(zip(names, self.milliseconds, strict=True)),
        }

    def lines(self) -> list[str]:
        """Return what there is to tell, a line each."""
        whole, half = (size / 2**20 for size in self.sizes)
        slow, fast = self.milliseconds
        found = [
            f"wrote {self.path} (float16): {half:.1f} MiB for {whole:.1f}; what both files find is "
            f"{self.distance:.1%} apart",
            f"one image, one thread: {slow:.1f} ms in float32, {fast:.1f} ms in float16",
        ]
        if fast >= slow:
            found.append("FP16 is not faster here: it only halves the file")
        return found


def write_half(exact: Path, out: Path, images: Sequence[Tensor], shape: tuple[int, int]) -> Halved:
    """Write a file in 16 bits and keep it if it finds what the one in float finds.

    Args:
        exact: the .onnx file in float.
        out: where to; a file of that name is replaced.
        images: batches (N, 3, H, W) to compare on.
        shape: height and width in pixels to time both at.

    Raises:
        ExportError: it cannot be written, or finds something else; there is no new file then.
    """
    draft = out.with_name(f".{out.name}.{os.getpid()}.onnx")
    try:
        _log.info(
            "writing the file in 16 bits, and comparing it on %d images", sum(map(len, images))
        )
        halve(exact, draft)
        both = [open_file(path, 1) for path in (exact, draft)]
        distance = sum(apart(both[0](x), both[1](x)) for x in images) / len(images)
        if not distance <= TOLERANCE:
            raise ExportError(
                f"in 16 bits what is found is {distance:.1%} apart from the file in float, more "
                f"than {TOLERANCE:.0%}; no file is kept: ship the one in float"
            )
        _log.info("timing both files")
        slow, fast = processor_milliseconds(both, shape)
        sizes = exact.stat().st_size, draft.stat().st_size
        os.replace(draft, out)
    finally:
        draft.unlink(missing_ok=True)
    return Halved(out, distance, sizes, (slow, fast))
