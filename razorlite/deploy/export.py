"""Files for other runtimes, kept only if they give what PyTorch gives."""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from razorlite.core.errors import ExportError
from razorlite.core.files import make_folder
from razorlite.core.progress import progress
from razorlite.deploy.compare import Agreement, agreement
from razorlite.deploy.graph import Deployed
from razorlite.deploy.network import name_layers
from razorlite.deploy.runtimes import needed, open_file

Format = Literal["onnx", "torchscript"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torchscript": ".torchscript"}
OPSET = 18
_DEFORM_OPSET = 19  # the first that has DeformConv; to other operators it adds types and settings
_NAMES: dict[Format, str] = {"onnx": "ONNX", "torchscript": "TorchScript"}
_DRAWS, _ROUNDING = 3, 1e-6  # of pixels, relatively
_log = logging.getLogger("razorlite")
_EXPORTERS = ("torch.onnx", "onnx_ir", "onnxscript")  # whose loggers speak during an export


@dataclass(frozen=True)
class Exported:
    """A file that was written, and how it was checked.

    Attributes:
        path: the file.
        format: onnx or torchscript.
        images: shapes (N, 3, H, W) it was compared with PyTorch on.
        agreement: how far both were apart at most.
        milliseconds: of the processor, for one image with one thread, of PyTorch and of the file;
            None where they were not timed.
    """

    path: Path
    format: Format
    images: tuple[tuple[int, ...], ...]
    agreement: Agreement
    milliseconds: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        pair = self.milliseconds
        times = {} if pair is None else {"milliseconds": {"pytorch": pair[0], "file": pair[1]}}
        return {
            "path": str(self.path),
            "format": self.format,
            "bytes": self.path.stat().st_size,
            "images": [list(shape) for shape in self.images],
            "compared": {self.agreement.what: self.agreement.found},
            "box_difference": self.agreement.box,
            "score_difference": self.agreement.score,
            **({} if self.agreement.mask is None else {"mask_difference": self.agreement.mask}),
            **times,
        }


def export(
    model: Deployed,
    path: str | Path,
    *,
    format: Format = "onnx",
    images: Sequence[Tensor],
    meta: Mapping[str, str] | None = None,
) -> Exported:
    """Write a file, run it, compare with PyTorch, and keep it if both agree.

    The file takes batches of any number of images of any one size.

    Args:
        model: what is written; on the CPU.
        path: where to; a file of that name is replaced.
        format: "onnx" or "torchscript".
        images: batches (N, 3, H, W) to compare on; the first also serves as the example. Give
            several sizes and numbers of images.
        meta: plain texts that are kept in the file.

    Raises:
        ExportError: a package is missing, the model cannot be written, or the file gives something
            else; there is no file then, and one that was there stays as it was.
        RunFolderError: the folder cannot be written.
    """
    path = Path(path)
    make_folder(path.parent)
    draft = path.with_name(f".{path.name}.{os.getpid()}{SUFFIXES[format]}")
    model = model.eval()
    try:
        _log.info("writing the model as %s", _NAMES[format])
        write_file(model, draft, images[0], format=format, meta=meta)
        _log.info("comparing the file with PyTorch on %d images", sum(map(len, images)))
        with torch.no_grad(), _quiet():
            result = _check(model, draft, images)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return Exported(path, format, tuple(tuple(x.shape) for x in images), result)


@torch.no_grad()
def write_file(
    model: nn.Module,
    path: Path,
    images: Tensor,
    *,
    format: Format = "onnx",
    meta: Mapping[str, str] | None = None,
) -> None:
    """Write a file and compare nothing.

    Args:
        model: a module of images, in evaluation mode, on the CPU.
        path: where to.
        images: (N, 3, H, W) to trace it with.
        format: "onnx" or "torchscript".
        meta: plain texts that are kept in the file.

    Raises:
        ExportError: a package is missing, or the model cannot be written.
    """
    with _quiet():
        _WRITERS[format](model, path, images, dict(meta or {}))


def _check(model: Deployed, path: Path, images: Sequence[Tensor]) -> Agreement:
    run = open_file(path)
    total = Agreement()
    for batch in progress(images, "batches", len(images)):
        shape = " x ".join(map(str, batch.shape))
        own = cache(partial(_nearly, model, batch))
        total += agreement(model(batch), run(batch), f"images {shape}", own)
    return total


def _nearly(model: Deployed, batch: Tensor) -> list[tuple[Tensor, ...]]:
    """Return what PyTorch gives for images whose pixels differ by about a rounding."""
    random = torch.Generator().manual_seed(0)
    noise = [torch.randn(batch.shape, generator=random) for _ in range(_DRAWS)]
    return [model(batch * (1 + _ROUNDING * one)) for one in noise]


def _write_onnx(model: nn.Module, path: Path, example: Tensor, meta: Mapping[str, str]) -> None:
    onnx = needed("onnx")
    needed("onnxscript")
    # A dimension of 1 would be taken for a constant.
    example = example if len(example) > 1 else torch.cat((example, example))
    free = getattr(torch.export.Dim, "DYNAMIC", None)
    if free is None:
        raise ExportError(
            f"writing ONNX needs PyTorch 2.6 or newer, this is {torch.__version__}; use --format "
            f"torchscript, or a newer PyTorch"
        )
    try:
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: free, 2: free, 3: free},),
            input_names=["images"],
            output_names=list(getattr(model, "outputs", ())) or None,
            opset_version=OPSET,
            verbose=False,
        )
    except Exception as error:
        raise ExportError(f"the model cannot be written as ONNX: {_reason(error)}") from error
    assert program is not None
    proto = program.model_proto
    name_layers(proto, model)
    if any(node.op_type == "DeformConv" for node in proto.graph.node):
        next(own for own in proto.opset_import if not own.domain).version = _DEFORM_OPSET
    for name, value in meta.items():
        proto.metadata_props.add(key=name, value=value)
    onnx.save(proto, str(path))


def _write_torchscript(
    model: nn.Module, path: Path, example: Tensor, meta: Mapping[str, str]
) -> None:
    try:
        script = torch.jit.trace(model, (example,), check_trace=False)
        torch.jit.save(script, str(path), _extra_files=dict(meta))
    except Exception as error:
        raise ExportError(f"the model cannot be traced: {_reason(error)}") from error


_WRITERS: dict[str, Any] = {"onnx": _write_onnx, "torchscript": _write_torchscript}


def _reason(error: BaseException) -> str:
    """Return the first line of what was wrong in the first place."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what exporters tell about their own insides."""
    loggers = [logging.getLogger(name) for name in _EXPORTERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
