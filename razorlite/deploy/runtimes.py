"""Running exported files."""

import warnings
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.errors import CheckpointError, ExportError
from razorlite.structures import Batch, Detections, Frame

Run = Callable[[Tensor], tuple[Tensor, ...]]
SUFFIXES = (".onnx", ".torchscript")
_CPUINFO = Path("/proc/cpuinfo")


def needed(package: str) -> Any:
    """Return a package of the export extra.

    Raises:
        ExportError: it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ExportError(
            f"{package} is not installed; run: pip install 'razorlite[export]'"
        ) from error


def check_runtime(runtime: str) -> None:
    """Refuse a runtime of which a package is missing.

    Args:
        runtime: as `LatencyConfig` has it.

    Raises:
        ExportError: as described.
    """
    if runtime.startswith("onnx"):
        for package in ("onnx", "onnxscript", "onnxruntime"):
            needed(package)


def open_file(path: str | Path, threads: int = 0) -> Run:
    """Return an exported file as a function of images (N, 3, H, W) on the CPU.

    Args:
        path: an .onnx or .torchscript file.
        threads: that ONNX Runtime computes with; its own choice by default.

    Raises:
        CheckpointError: the file cannot be read.
        ExportError: a package is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no file {path}; check the path")
    return _open_onnx(path, threads) if path.suffix == ".onnx" else _open_torchscript(path)


def read_meta(path: str | Path) -> dict[str, str]:
    """Return the texts that `razorlite.deploy.export` kept in a file.

    Raises:
        CheckpointError: the file cannot be read.
        ExportError: a package is missing.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        return dict(session(path, 1).get_modelmeta().custom_metadata_map)
    extra = {META_NAME: ""}
    _script(path, extra)
    return {name: text for name, text in extra.items() if text}


META_NAME = "razorlite.json"
CLASSES_NAME = "classes.txt"  # one name a line, for programs that read no JSON


class FileModel(nn.Module):
    """An exported detector or classifier with the face of one in PyTorch: it has `predict`.

    Args:
        path: an .onnx or .torchscript file that takes pixels from 0 to 255.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self._run = open_file(path)

    def predict(self, batch: Batch) -> list[Any]:
        """Return the detections of each image in pixels of the original, or (C,) probabilities.

        Args:
            batch: (N, 3, H, W) RGB pixels from 0 to 255, and where they lie in their padding.
        """
        return [self._one(x, f) for x, f in zip(batch.images, batch.frames(), strict=True)]

    def _one(self, image: Tensor, frame: Frame) -> Any:
        height, width = frame.size
        outputs = [x[0] for x in self._run(image[None, :, :height, :width])]
        if len(outputs) == 1:
            return outputs[0]
        boxes, scores, labels = (x[outputs[1] > 0] for x in outputs[:3])
        masks = _scaled(outputs[3][: len(boxes)], frame.original) if len(outputs) > 3 else None
        return Detections(frame.to_original(boxes), scores, labels, masks)


def _scaled(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (N, H, W) bool masks at another size, where most of a pixel is inside."""
    if tuple(masks.shape[1:]) == size:
        return masks
    scaled = torch.zeros((len(masks), *size), dtype=torch.bool)
    for mask, out in zip(masks, scaled, strict=True):  # each alone: as floats all would be large
        out[:] = F.interpolate(mask[None, None].float(), size, mode="bilinear")[0, 0] >= 0.5
    return scaled


def _open_onnx(path: Path, threads: int) -> Run:
    opened = session(path, threads)
    name = opened.get_inputs()[0].name

    def run(images: Tensor) -> tuple[Tensor, ...]:
        outputs = opened.run(None, {name: images.contiguous().numpy()})
        return tuple(torch.from_numpy(x) for x in outputs)

    return run


def session(model: Path | bytes, threads: int, *, folded: Path | None = None) -> Any:
    """Return a model opened by ONNX Runtime.

    Args:
        model: an .onnx file, or what one holds.
        threads: to compute with; ONNX Runtime's own choice if 0.
        folded: file to write the model to, with constants computed and batch norms multiplied into
            convolutions.

    Raises:
        CheckpointError: the file cannot be read.
        ExportError: ONNX Runtime is missing.
    """
    runtime = needed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if _overflows():
        options.add_session_config_entry("session.x64quantprecision", "1")
    if folded is not None:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
    given, name = (model, "the model") if isinstance(model, bytes) else (str(model), str(model))
    try:
        return runtime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has error classes of its own, without a common base
        first = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{name} is no ONNX file that can be run: {first}") from error


@lru_cache
def _overflows() -> bool:
    """Return whether this processor adds pairs of 8-bit products in 16 bits, as x86 without VNNI.

    ONNX Runtime can do it exactly there; elsewhere the same setting costs a third more time.
    """
    lines = _CPUINFO.read_text(errors="replace").splitlines() if _CPUINFO.is_file() else []
    flags = next((line for line in lines if line.startswith("flags")), "")
    return "avx2" in flags and "vnni" not in flags


def _open_torchscript(path: Path) -> Run:
    script = _script(path, {})

    def run(images: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return tuple(script(images))

    return run


def _script(path: Path, extra: dict[str, str]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of TorchScript itself
            script = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{path} is no TorchScript file: {first}") from error
    for name, text in extra.items():
        extra[name] = text.decode() if isinstance(text, bytes) else text
    return script
