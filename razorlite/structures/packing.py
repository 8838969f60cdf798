"""Records of tensors, and the plain form in which they travel between processes."""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from razorlite.core.errors import DataError

R = TypeVar("R", bound="Record")
Packed = tuple[type, dict[str, Any]]


@dataclass(frozen=True)
class _Array:
    """A tensor's values."""

    values: np.ndarray


@dataclass(frozen=True)
class _Parts:
    """A record's class and packed values."""

    kind: Any
    values: dict[str, Any]


class Record:
    """What frozen dataclasses of tensors and of plain values inherit: moving and packing.

    Tensors may also lie inside tuples, lists and dicts.
    """

    def to(self: R, device: torch.device | str) -> R:
        """Return the record with its tensors on a device.

        Raises:
            DataError: the class is no dataclass.
        """

        def moved(value: Any) -> Any:
            if isinstance(value, Tensor):
                return sent(value, device)
            return value.to(device) if isinstance(value, Record) else value

        return replace(self, **{k: _mapped(moved, v) for k, v in _values(self).items()})  # type: ignore[type-var]

    def pack(self) -> Packed:
        """Return the class to call and its arguments by name, in plain values that pickle.

        Raises:
            DataError: the class is no dataclass.
        """
        return type(self), {name: packed(value) for name, value in _values(self).items()}


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor of any shape on a device; whoever reads it there reads what was sent.

    A copy to an accelerator may still be under way, and later work there waits for it. One to the
    CPU is done: nothing would make its readers wait.
    """
    return tensor.to(device, non_blocking=torch.device(device).type != "cpu")


def packed(value: Any) -> Any:
    """Return plain picklable values from which `unpacked` makes an equal one.

    Tensors, alone or in tuples, lists, dicts and records, become arrays on the CPU, so that no
    process has to share memory or files with another.
    """

    def plain(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return _Array(leaf.detach().cpu().contiguous().numpy())
        return _Parts(*leaf.pack()) if hasattr(leaf, "pack") else leaf

    return _mapped(plain, value)


def unpacked(value: Any) -> Any:
    """Return what `packed` made plain."""

    def made(leaf: Any) -> Any:
        if isinstance(leaf, _Array):
            return torch.from_numpy(leaf.values)
        if isinstance(leaf, _Parts):
            return leaf.kind(**{name: unpacked(part) for name, part in leaf.values.items()})
        return leaf

    return _mapped(made, value)


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Return a value with a function done to all that lies in its tuples, lists and dicts."""
    kind = type(value)
    if kind is tuple or kind is list:
        return kind([_mapped(function, part) for part in value])
    if kind is dict:
        return {name: _mapped(function, part) for name, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return kind(*[_mapped(function, part) for part in value])
    return function(value)


def _values(record: Any) -> dict[str, Any]:
    if not is_dataclass(record):
        raise DataError(
            f"{type(record).__name__} is no dataclass, whose fields say what to move and pack; "
            "write @dataclass(frozen=True) above the class"
        )
    return {field.name: getattr(record, field.name) for field in fields(record)}
