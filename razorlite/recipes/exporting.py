"""The command `export`: a file for another runtime, checked against PyTorch."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from razorlite.core.compute import with_layout
from razorlite.core.errors import ConfigError
from razorlite.core.files import make_folder
from razorlite.core.streams import results
from razorlite.deploy import Deployed, Exported, open_file
from razorlite.deploy import export as write
from razorlite.deploy.export import SUFFIXES, Format
from razorlite.deploy.runtimes import CLASSES_NAME, META_NAME, needed
from razorlite.deploy.timing import processor_milliseconds
from razorlite.recipes.halving import Halved, write_half
from razorlite.recipes.loading import Inferencer
from razorlite.recipes.quantising import Quantised, Quantising

_UNSTABLE = "; %d more hang on rounding, in PyTorch alone as well"
_log = logging.getLogger("razorlite")
_STEP = 32  # pixels between the sizes that are compared


def export(
    model: str | Path,
    checkpoint: str | Path | None = None,
    *,
    format: Format | None = None,
    out: str | Path | None = None,
    subnet: str | Path | None = None,
    images: str | Path | None = None,
    int8: bool = False,
    half: bool = False,
    calibration: int = 128,
    max_drop: float = 1.0,
) -> Exported | Quantised | Halved:
    """Write a trained model as one file for ONNX Runtime or libtorch, and check what it gives.

    The file takes RGB pixels from 0 to 255, float (N, 3, H, W), of any number and size, and gives
    boxes (N, K, 4) in pixels, scores (N, K), 0 in empty slots, and labels (N, K); of a detector
    with masks, bool masks (N, M, H, W) of the first M slots too; of a classifier, probabilities
    (N, C). Class names and the configuration travel in it. It is kept only if
    detections are those of PyTorch on several sizes and numbers of images.

    Args:
        model: a run folder, a checkpoint, or a configuration.
        checkpoint: weights, where `model` is a configuration.
        format: "onnx" or "torchscript"; by default what the name of `out` ends in, else ONNX.
        out: the file; beside the checkpoint by default.
        subnet: a subnet file.
        images: an image, folder or pattern to compare on; noise by default.
        int8: write an ONNX file in 8 bits, made of the one in float; `model` may also be that file.
        half: write an ONNX file whose layers compute in float16, likewise.
        calibration: how many training images its activations are calibrated on.
        max_drop: points of the metric that it may lose on the images of data.val (or data.test).

    Raises:
        CheckpointError: the model cannot be read or does not say enough.
        ConfigError: the model is an exported file already, its settings cannot be exported, or the
            name of `out` ends in something else than the format.
        ExportError: the file cannot be written, or does not give what PyTorch gives.
    """
    chosen = _format(format, out)
    if int8 and half:
        raise ConfigError("a file computes in int8 or in half precision; choose one of them")
    if (int8 or half) and chosen != "onnx":
        form = "int8" if int8 else "half"
        raise ConfigError(f"{form} is a form of ONNX files, got format {chosen}")
    loaded = Inferencer(model, checkpoint, subnet=subnet, device="cpu")
    _log.info("exporting %s", loaded.path)
    if int8 and images is not None and loaded.path.suffix in SUFFIXES.values():
        raise ConfigError(
            f"images are what a file in float is compared with PyTorch on, and {loaded.path} is "
            f"one already; leave them out: int8 is calibrated on data.train"
        )
    if int8:
        path = Path(out) if out is not None else loaded.path.with_suffix(".int8.onnx")
        return _in_8_bits(loaded, path, images, calibration, max_drop)
    if half:
        path = Path(out) if out is not None else loaded.path.with_suffix(".half.onnx")
        return _in_16_bits(loaded, path, images)
    if loaded.path.suffix in SUFFIXES.values():
        raise ConfigError(f"{loaded.path} is an exported file already; name a checkpoint")
    path = Path(out) if out is not None else loaded.path.with_suffix(SUFFIXES[chosen])
    result = _in_float(loaded, path, chosen, images)
    results.info("%s", describe(result))
    return result


def _in_float(
    loaded: Inferencer, path: Path, chosen: Format, images: str | Path | None
) -> Exported:
    deployed = Deployed(loaded.model, loaded.preprocess)
    card = replace(loaded.card, classes=loaded.classes)  # numbers, where none are known
    result = write(
        deployed,
        path,
        format=chosen,
        images=_examples(loaded, images),
        meta={
            META_NAME: json.dumps(card.to_meta(), ensure_ascii=False),
            CLASSES_NAME: "\n".join(" ".join(name.split()) for name in loaded.classes),
        },
    )
    _log.info("timing PyTorch and the file")
    result = replace(result, milliseconds=_milliseconds(deployed, path, loaded.experiment.shape))
    if not result.agreement.found:
        _log.warning(
            "PyTorch finds nothing in these images, so no boxes were compared; name images in "
            "which it finds something by --images"
        )
    return result


def _milliseconds(deployed: Deployed, path: Path, shape: tuple[int, int]) -> tuple[float, float]:
    """Return what one image takes in PyTorch and in the file, with one thread."""

    def run(pixels: Tensor) -> object:
        return deployed(with_layout(pixels, torch.channels_last))

    plain, file = processor_milliseconds([run, open_file(path, 1)], shape)
    return plain, file


def _in_8_bits(
    loaded: Inferencer,
    path: Path,
    images: str | Path | None,
    calibration: int,
    max_drop: float,
) -> Quantised:
    """Write a file in 8 bits of one in float, which is not kept if it was made for this."""
    needed("onnxruntime")  # before images are read
    quantising = Quantising(loaded, calibration, max_drop)
    with _exact(loaded, path, images) as exact:
        result = quantising.write(exact, path)
    _tell(result.lines())
    return result


def _in_16_bits(loaded: Inferencer, path: Path, images: str | Path | None) -> Halved:
    """Write a file in 16 bits of one in float, likewise."""
    with _exact(loaded, path, images) as exact:
        result = write_half(exact, path, _examples(loaded, images), loaded.experiment.shape)
    _tell(result.lines())
    return result


@contextmanager
def _exact(loaded: Inferencer, path: Path, images: str | Path | None) -> Iterator[Path]:
    """Provide the file in float: the model's own, or one for the time of the block."""
    make_folder(path.parent)
    with TemporaryDirectory() as folder:
        exact = loaded.path
        if exact.suffix not in SUFFIXES.values():
            exact = Path(folder) / "float.onnx"
            _in_float(loaded, exact, "onnx", images)
        yield exact


def _tell(lines: Sequence[str]) -> None:
    for line in lines:
        results.info("%s", line)


def _format(format: Format | None, out: str | Path | None) -> Format:
    """Return the format that is named, or that the name of the file tells."""
    if out is None:
        return format or "onnx"
    told = next((one for one, own in SUFFIXES.items() if own == Path(out).suffix), None)
    if told is None and format is None:
        known = " or ".join(SUFFIXES.values())
        raise ConfigError(f"{out}: the name tells no format; end it in {known}")
    if told is None or format not in (None, told):
        ending = "no exported file" if told is None else f"a file of {told}"
        raise ConfigError(f"{out} ends like {ending}; expected {SUFFIXES[format or 'onnx']}")
    return told


def describe(result: Exported) -> str:
    """Return a line on what was written and how it was checked."""
    own, size = result.agreement, result.path.stat().st_size / 2**20
    shapes = ", ".join("x".join(map(str, shape)) for shape in result.images)
    boxes = f"boxes within {own.box:.2g} pixels, " if own.what == "detections" else ""
    apart = f"{boxes}scores within {own.score:.2g}"
    if own.mask is not None:
        apart += f", masks in at most {own.mask:.2%} of their pixels"
    found = f"{own.found} {own.what}" + (" on images" if own.what == "detections" else "")
    return (
        f"wrote {result.path} ({result.format}, {size:.1f} MiB); {found} of {shapes} agree with "
        f"PyTorch: {apart}"
        + (_UNSTABLE % own.unstable if own.unstable else "")
        + ("" if result.milliseconds is None else _latency(*result.milliseconds))
    )


def _latency(plain: float, file: float) -> str:
    slower = "; the file is not faster here" if file >= plain else ""
    return f"; one image, one thread: {plain:.1f} ms in PyTorch, {file:.1f} ms in the file{slower}"


def _examples(loaded: Inferencer, images: str | Path | None) -> list[Tensor]:
    """Return batches of pixels: the configured size and two others, one image and several."""
    height, width = loaded.experiment.shape
    sizes = [(2, height, width), (1, height + _STEP, width), (4, height, width + 2 * _STEP)]
    noise = torch.Generator().manual_seed(0)
    batches = [torch.randint(0, 256, (n, 3, h, w), generator=noise).float() for n, h, w in sizes]
    if images is None:
        return batches
    return [_resized(loaded, images, batch) for batch in batches]


def _resized(loaded: Inferencer, images: str | Path, like: Tensor) -> Tensor:
    """Return real images at the size and number of a batch."""
    found = loaded.pixels(images, limit=len(like))
    chosen = [found[i % len(found)] for i in range(len(like))]
    size = like.shape[-2:]
    scaled = [
        torch.nn.functional.interpolate(x[None].float(), size, mode="bilinear", antialias=True)
        for x in chosen
    ]
    return torch.cat(scaled).round().clamp(0, 255)
