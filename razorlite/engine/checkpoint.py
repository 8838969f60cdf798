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
from razorlite.engine.weights import find_weights

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
Adapt = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
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


_UNKNOWN = LoadReport(loaded=())


class WeightsError(CheckpointError):
    """A file's weights do not fit a model; `details` is a table of every key that does not.

    What goes from one process to another is the message alone.
    """

    def __init__(self, message: str, report: LoadReport = _UNKNOWN) -> None:
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
    ema: bool = True,
    names: Mapping[str, Tensor] | None = None,
    convert: Adapt | None = None,
    adapt: Adapt | None = None,
    advice: str = "build the model it was trained as, or load what fits with strict=False",
    content: Mapping[str, Any] | None = None,
) -> LoadReport:
    """Copy a checkpoint's weights into a model.

    Reads our checkpoints, those of OpenMMLab's detectors, plain state dicts, and files that hold
    one of these somewhere inside or under a prefix (`module.`, `architecture.`, `_orig_mod.`, …):
    taken is where most of the model's tensors lie. Of averaged and trained weights the averaged
    ones are taken. Names that OpenMMLab has changed since are translated where the model has the
    new one. What was loaded and what was left out is logged if it was not all.

    Args:
        model: takes every tensor whose name and shape fit.
        path: a file or a URL.
        strict: raise unless all keys fit; nothing is copied then. Without it, what does not fit
            stays at its initialisation.
        prefix: take only the keys that start with it, and cut it off: "backbone." loads a
            detector's backbone. Or the name of a mapping in the file: "teacher".
        key_map: renames keys: {old start: new start}, or a function (None drops the key).
        ignore: globs of keys, of the file's or the model's, to leave out: ("fc.*",) for a
            torchvision classifier that is loaded into a backbone.
        ema: take averaged weights where there are any; else those that were trained.
        names: the tensors to look for in the file; the model's own by default.
        convert: makes the model's tensors of those in `names`.
        adapt: changes the tensors, once they have the model's names, before they are compared.
        advice: ends the message of what does not fit.
        content: what the file holds, if it has been read already.

    Raises:
        CheckpointError: the file cannot be read, holds no weights, or some that are not finite.
        WeightsError: keys do not fit (strict), or not one does.
    """
    own = model.state_dict()
    content = read_checkpoint(path) if content is None else content
    found = find_weights(
        _without(content, ignore),
        own if names is None else names,
        path=path,
        prefix=prefix,
        ema=ema,
        whole_names=key_map is not None,
    )
    state = _state_dict(content, path) if found is None else found
    state = state if convert is None else convert(state)
    state = own_names(_renamed(state, key_map, ignore), own)
    state = state if adapt is None else adapt(state)
    report = compare(model, state, ignore)
    if not report.loaded:
        raise WeightsError(f"{path} is of another model: {report.summary()}", report)
    if strict and not report.complete:
        raise WeightsError(f"{path} does not fit the model: {report.summary()}; {advice}", report)
    loaded = {key: state[key] for key in report.loaded}
    refuse_non_finite(loaded, own, path)
    model.load_state_dict(loaded, strict=False)
    if not report.complete:
        _log.warning("%s: %s", path, report.outcome())
    return report


def refuse_non_finite(state: Mapping[str, Tensor], own: Mapping[str, Tensor], path: object) -> None:
    """Refuse weights and statistics that are NaN or infinite.

    Infinite numbers that a model is built with, as in a mask of attention, may stay.

    Args:
        state: what is to be loaded.
        own: the model's tensors.
        path: of the file, for the message.

    Raises:
        CheckpointError: names the first tensor.
    """
    for name, tensor in state.items():
        if not is_finite({name: tensor}) and is_finite({name: own[name]}):
            raise CheckpointError(
                f"{path}: {name} is not finite (NaN or infinite), so the training it comes from "
                f"had failed; use an earlier checkpoint"
            )


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by name.

    Raises:
        CheckpointError: the file cannot be read or holds no weights.
    """
    return _state_dict(read_checkpoint(path), path)


def _state_dict(content: Any, path: str | Path) -> dict[str, Tensor]:
    for key in _HOLDERS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state = named_tensors(content, path)
    if not state:
        keys = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise CheckpointError(f"{path} holds no weights (found {keys}); name a checkpoint")
    return without_bookkeeping(state)


def compare(
    model: nn.Module, state: Mapping[str, Tensor], ignore: Sequence[str] = ()
) -> LoadReport:
    """Sort keys into those that fit a model and those that do not.

    Args:
        model: what is to be loaded.
        state: tensors by the model's names.
        ignore: globs of the model's keys that may be missing.
    """
    tensors = model.state_dict(keep_vars=True)
    expected = {k: v for k, v in tensors.items() if isinstance(v, Tensor)}
    shared = [key for key in expected if key in state]
    odd = [key for key in shared if state[key].shape != expected[key].shape]
    there = {id(expected[key]) for key in shared}  # a tensor of two names needs one
    missing = [k for k in expected if id(expected[k]) not in there and not _is_counter(k)]
    missing = [k for k in missing if not _matches(k, ignore)]
    unexpected = [k for k in state if k not in expected]
    shapes = {k: tuple(expected[k].shape) for k in missing}
    return LoadReport(
        loaded=tuple(key for key in shared if key not in set(odd)),
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        shapes={**shapes, **{k: tuple(state[k].shape) for k in unexpected}},
        mismatched=tuple((k, tuple(state[k].shape), tuple(expected[k].shape)) for k in odd),
    )


def _renamed(
    state: Mapping[str, Tensor], key_map: KeyMap | None, ignore: Sequence[str]
) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        new = None if _matches(key, ignore) else _rename(key, key_map)
        if new is not None and not _matches(new, ignore):
            renamed[new] = value
    return renamed


def _without(content: Mapping[str, Any], ignore: Sequence[str]) -> dict[str, Any]:
    """Return a file's content without the tensors of some names."""
    return {
        key: _without(value, ignore) if isinstance(value, Mapping) else value
        for key, value in content.items()
        if not (isinstance(value, Tensor) and _matches(str(key), ignore))
    }


def _matches(key: str, globs: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(key, glob) for glob in globs)


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
