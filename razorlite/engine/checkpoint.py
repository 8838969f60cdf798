"""Weights from a file into a model, with every key accounted for."""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from razorlite.core.errors import CheckpointError
from razorlite.engine.checkpoint_io import (
    read_checkpoint,
    read_training_checkpoint,
    save_checkpoint,
)

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


@dataclass(frozen=True)
class LoadReport:
    """What became of each key.

    Attributes:
        loaded: keys whose tensors the model took.
        missing: the model's keys that the file lacks.
        unexpected: the file's keys that the model lacks.
        mismatched: (key, shape in the file, shape in the model).
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the file and the model have the same keys and shapes."""
        return not (self.missing or self.unexpected or self.mismatched)

    def summary(self) -> str:
        """Return one line with counts and the first few names."""
        total = len(self.loaded) + len(self.missing) + len(self.mismatched)
        shapes = [f"{key} {_shape(a)}, model {_shape(b)}" for key, a, b in self.mismatched]
        faults = [
            _few("missing", self.missing),
            _few("unexpected", self.unexpected),
            _few("mis-shaped", shapes),
        ]
        return "; ".join([f"{len(self.loaded)} of {total} tensors fit", *filter(None, faults)])

    def details(self) -> str:
        """Return every missing, unexpected and mis-shaped key, one a line."""
        lines = [f"missing: {key}" for key in self.missing]
        lines += [f"unexpected: {key}" for key in self.unexpected]
        lines += [
            f"mis-shaped: {k}: file {_shape(a)}, model {_shape(b)}" for k, a, b in self.mismatched
        ]
        return "\n".join(lines)


class WeightsError(CheckpointError):
    """A file's weights do not fit a model; `details` names every key, one a line."""

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

    Reads our checkpoints (their averaged weights, where they have them), plain state dicts,
    `{"state_dict": …}` files, and any of these saved from under `module.`.

    Args:
        model: takes every tensor whose name and shape fit.
        path: a file or a URL.
        strict: raise unless all keys fit; nothing is copied then.
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
    report = compare(model, state)
    if not report.loaded:
        raise WeightsError(f"{path} is of another model: {report.summary()}", report)
    if strict and not report.complete:
        advice = "build the model it was trained as, or load what fits with strict=False"
        raise WeightsError(f"{path} does not fit the model: {report.summary()}; {advice}", report)
    model.load_state_dict({key: state[key] for key in report.loaded}, strict=False)
    return report


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by name.

    Raises:
        CheckpointError: the file cannot be read or holds no weights.
    """
    content: Any = read_checkpoint(path)
    for key in ("model", "state_dict", "model_state_dict"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not state:
        keys = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise CheckpointError(f"{path} holds no weights (found {keys}); name a checkpoint")
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def compare(model: nn.Module, state: Mapping[str, Tensor]) -> LoadReport:
    """Sort keys into those that fit a model and those that do not."""
    wanted = {k: v for k, v in model.state_dict().items() if isinstance(v, Tensor)}
    shared = [key for key in wanted if key in state]
    odd = [key for key in shared if state[key].shape != wanted[key].shape]
    return LoadReport(
        loaded=tuple(key for key in shared if key not in set(odd)),
        missing=tuple(k for k in wanted if k not in state and not _is_counter(k)),
        unexpected=tuple(k for k in state if k not in wanted),
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


def _shape(shape: Sequence[int]) -> str:
    return str(tuple(shape))


def _few(label: str, names: Sequence[str], count: int = 3) -> str:
    if not names:
        return ""
    more = ", …" if len(names) > count else ""
    return f"{len(names)} {label}: {', '.join(names[:count])}{more}"


def is_finite(state: Mapping[str, Any]) -> bool:
    """Return whether all floating tensors of a state dict are finite."""
    floating = [v for v in state.values() if isinstance(v, Tensor) and v.is_floating_point()]
    return bool(torch.stack([v.isfinite().all() for v in floating]).all()) if floating else True
