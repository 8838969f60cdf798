"""Weights from a file into a model, with every key accounted for."""

import fnmatch
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from razorlite.core.errors import CheckpointError
from razorlite.core.tensor_files import named_tensors
from razorlite.engine.checkpoint_io import (
    read_checkpoint,
    read_training_checkpoint,
    save_checkpoint,
)
from razorlite.engine.checkpoint_names import own_names, without_bookkeeping

__all__ = [
    "LoadReport",
    "WeightsError",
    "compare",
    "is_finite",
    "load_weights",
    "read_checkpoint",
    "read_state_dict",
    "read_training_checkpoint",
    "save_checkpoint",
]

KeyMap = Mapping[str, str] | Callable[[str], str | None]
Shape = tuple[int, ...]

_log = logging.getLogger("razorlite")
_HOLDERS = ("model", "state_dict", "model_state_dict", "ema_state_dict")


@dataclass(frozen=True)
class LoadReport:
    """What became of each key.

    Attributes:
        loaded: keys whose tensors the model took.
        missing: the model's keys that the file lacks.
        unexpected: the file's keys that the model lacks.
        mismatched: (key, shape in the file, shape in the model).
        shapes: of the missing keys in the model, and of the unexpected ones in the file.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, Shape, Shape], ...] = ()
    shapes: Mapping[str, Shape] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether the file and the model have the same keys and shapes."""
        return not (self.missing or self.unexpected or self.mismatched)

    @property
    def total(self) -> int:
        """How many tensors the model wants."""
        return len(self.loaded) + len(self.missing) + len(self.mismatched)

    def summary(self) -> str:
        """Return one line with counts and the first few names, for weights that were refused."""
        shapes = [f"{key} {_shape(a)}, model {_shape(b)}" for key, a, b in self.mismatched]
        faults = [
            _few("missing", self.missing),
            _few("unexpected", self.unexpected),
            _few("mis-shaped", shapes),
        ]
        fit = f"{len(self.loaded)} of {self.total} tensors fit"
        return "; ".join([fit, *filter(None, faults)])

    def outcome(self) -> str:
        """Return one line that says what was loaded, what was left as it was, and why."""
        odd = list(dict.fromkeys(_difference(*row) for row in self.mismatched))
        parts = [
            f"loaded {len(self.loaded)} of {self.total}",
            f"{_first(odd)}: left at initialisation" if odd else "",
            f"{_few('missing', self.missing)}: left at initialisation" if self.missing else "",
            f"{_few('unexpected', self.unexpected)}: not used" if self.unexpected else "",
        ]
        return "; ".join(filter(None, parts))

    def details(self) -> str:
        """Return a table of every missing, unexpected and mis-shaped key, one a line."""
        rows = [
            *(("missing", key, "", _shape(self.shapes.get(key))) for key in self.missing),
            *(("unexpected", key, _shape(self.shapes.get(key)), "") for key in self.unexpected),
            *(("mis-shaped", key, _shape(a), _shape(b)) for key, a, b in self.mismatched),
        ]
        if not rows:
            return ""
        rows.insert(0, ("", "key", "file", "model"))
        widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
        lines = [[c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in rows]
        return "\n".join("  ".join(cells).rstrip() for cells in lines)


class WeightsError(CheckpointError):
    """A file's weights do not fit a model; `details` is a table of every key that does not."""

    def __init__(self, message: str, report: LoadReport) -> None:
        super().__init__(message)
        self.report = report
        self.details = report.details()


def load_weights(
    model: nn.Module,
    path: str | Path,
    *,
    strict: bool = True,
    prefix: str = "",
    key_map: KeyMap | None = None,
    ignore: Sequence[str] = (),
) -> LoadReport:
    """Copy a checkpoint's weights into a model.

    Reads our checkpoints (their averaged weights, where they have them), those of OpenMMLab's
    detectors, plain state dicts, `{"state_dict": …}` files, and any of these saved from under
    `module.`. Names that OpenMMLab has changed since are translated where the model has the new
    one. What was loaded and what was left out is logged if it was not all.

    Args:
        model: takes every tensor whose name and shape fit.
        path: a file or a URL.
        strict: raise unless all keys fit; nothing is copied then. Without it, what does not fit
            stays at its initialisation: heads for other classes, when fine-tuning.
        prefix: take only the keys that start with it, and cut it off: "backbone." loads a
            detector's backbone.
        key_map: renames keys: {old start: new start}, or a function (None drops the key).
        ignore: globs of the file's keys to leave out: ("fc.*",) for a torchvision classifier that
            is loaded into a backbone.

    Raises:
        CheckpointError: the file cannot be read or holds no weights.
        WeightsError: keys do not fit (strict), or not one does.
    """
    state = _renamed(read_state_dict(path), prefix, key_map, ignore)
    state = own_names(state, model.state_dict())
    report = compare(model, state)
    if not report.loaded:
        raise WeightsError(f"{path} is of another model: {report.summary()}", report)
    if strict and not report.complete:
        advice = "build the model it was trained as, or load what fits with strict=False"
        raise WeightsError(f"{path} does not fit the model: {report.summary()}; {advice}", report)
    model.load_state_dict({key: state[key] for key in report.loaded}, strict=False)
    if not report.complete:
        _log.warning("%s: %s", path, report.outcome())
    return report


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by name.

    Raises:
        CheckpointError: the file cannot be read or holds no weights.
    """
    content: Any = read_checkpoint(path)
    for key in _HOLDERS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state = named_tensors(content, path)
    if not state:
        keys = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise CheckpointError(f"{path} holds no weights (found {keys}); name a checkpoint")
    return without_bookkeeping(state)


def compare(model: nn.Module, state: Mapping[str, Tensor]) -> LoadReport:
    """Sort keys into those that fit a model and those that do not."""
    wanted = {k: v for k, v in model.state_dict().items() if isinstance(v, Tensor)}
    shared = [key for key in wanted if key in state]
    odd = [key for key in shared if state[key].shape != wanted[key].shape]
    missing = [k for k in wanted if k not in state and not _is_counter(k)]
    unexpected = [k for k in state if k not in wanted]
    shapes = {k: tuple(wanted[k].shape) for k in missing}
    return LoadReport(
        loaded=tuple(key for key in shared if key not in set(odd)),
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        shapes={**shapes, **{k: tuple(state[k].shape) for k in unexpected}},
        mismatched=tuple((k, tuple(state[k].shape), tuple(wanted[k].shape)) for k in odd),
    )


def _renamed(
    state: Mapping[str, Tensor], prefix: str, key_map: KeyMap | None, ignore: Sequence[str]
) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        if key.startswith(prefix) and not any(fnmatch.fnmatchcase(key, glob) for glob in ignore):
            new = _rename(key.removeprefix(prefix), key_map)
            if new is not None:
                renamed[new] = value
    return renamed


def _rename(key: str, key_map: KeyMap | None) -> str | None:
    if key_map is None:
        return key
    if not isinstance(key_map, Mapping):
        return key_map(key)
    starts = [start for start in key_map if key.startswith(start)]
    if not starts:
        return key
    longest = max(starts, key=len)
    return key_map[longest] + key.removeprefix(longest)


def _is_counter(key: str) -> bool:
    """Files from before PyTorch 0.4.1 lack batch norm's counter, and nothing depends on it."""
    return key.endswith("num_batches_tracked")


def _difference(key: str, theirs: Shape, ours: Shape) -> str:
    """Return how two shapes differ; weight and bias of a layer with other classes alike."""
    if theirs[1:] == ours[1:] and theirs and ours:
        layer = key.removesuffix(".weight").removesuffix(".bias")
        return f"{layer} has {theirs[0]} rows, model has {ours[0]}"
    return f"{key} has shape {_shape(theirs)}, model has {_shape(ours)}"


def _shape(shape: Sequence[int] | None) -> str:
    return "?" if shape is None else str(tuple(shape))


def _few(label: str, names: Sequence[str]) -> str:
    return f"{len(names)} {label}: {_first(names)}" if names else ""


def _first(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")


def is_finite(state: Mapping[str, Any]) -> bool:
    """Return whether all floating tensors of a state dict are finite."""
    floating = [v for v in state.values() if isinstance(v, Tensor) and v.is_floating_point()]
    return bool(torch.stack([v.isfinite().all() for v in floating]).all()) if floating else True
