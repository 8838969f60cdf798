"""Files of tensors and plain values, read without executing anything in them."""

import pickle
import re
import shlex
import tarfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from razorlite.core._declared_storages import check_archive, check_legacy
from razorlite.core.errors import CheckpointError

_CONVERT = (
    "import sys, torch; c = torch.load(sys.argv[1], 'cpu', weights_only=False); "
    "c = c.get('state_dict', c.get('model', c)); torch.save({'state_dict': c}, sys.argv[2])"
)
_CONVERT_PROGRAM = (
    "import sys, torch; c = torch.jit.load(sys.argv[1], 'cpu'); "
    "torch.save({'state_dict': c.state_dict()}, sys.argv[2])"
)

_HARMLESS = 1 << 28  # bytes; repeated values need less in the file
_CUT_OFF = ("Failed to load pickle data", "unexpected EOF", "truncated", "Ran out of input")


def read_tensor_file(path: str | Path, device: str | torch.device = "cpu") -> Any:
    """Return what `torch.save` wrote, if it is made of dense tensors and plain values.

    PyTorch's restricted unpickler reads it, once the sizes that the file states have been checked.
    Two kinds of files do not come that far: TorchScript programs, and the tar files of PyTorch
    0.1, which could execute code before PyTorch 2.6 even so (CVE-2025-32434).

    Args:
        path: a local file.
        device: where tensors go.

    Raises:
        CheckpointError: no file that can be opened, truncated, damaged, no PyTorch file, with
            tensors larger than the file, on no device or not dense, or one that needs more than
            tensors and plain values; then the message has the command that converts it.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise CheckpointError(f"{path} is no file; give the path of a checkpoint")
        _refuse_containers(path)
        content = _load(path, device)
        _check_tensors(path, content)
        return content
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(_unpicklable(path, str(error))) from error
    except PermissionError:
        raise CheckpointError(
            f"{path} cannot be opened: permission denied; make it readable or copy it"
        ) from None
    except Exception as error:  # bytes that make no sense can raise anything
        raise CheckpointError(_damaged(path, error)) from error


def named_tensors(content: Mapping[Any, Any], path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a mapping.

    Raises:
        CheckpointError: one is not named by text, as state dicts name theirs.
    """
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    odd = [key for key in tensors if not isinstance(key, str)]
    if odd:
        raise CheckpointError(
            f"{path} names a tensor by {odd[0]!r}, a {type(odd[0]).__name__}: that is no state "
            f"dict; save what model.state_dict() returns"
        )
    return tensors


def first_line(error: Any) -> str:
    """Return the first line of an error's message, shortened, or its kind."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:120]


def _load(path: Path, device: str | torch.device) -> Any:
    with open(path, "rb") as file:
        start = file.read(2)
    if start == b"PK":
        check_archive(path)
    elif start[:1] == b"\x80":
        check_legacy(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location=device, weights_only=True)


def _check_tensors(path: Path, content: Any) -> None:
    """Refuse tensors that cannot be copied like others, or only with more memory than the file."""
    size = path.stat().st_size
    for place, tensor in _tensors(content):
        kind = _odd_kind(tensor)
        if kind:
            raise CheckpointError(f"{path}: {place} is {kind}; save it as a dense tensor of a CPU")
        if tensor.numel() * tensor.element_size() > max(size, _HARMLESS):
            raise CheckpointError(
                f"{path}: {place} has shape {tuple(tensor.shape)}, more than the file of {size} "
                f"bytes can hold; use another checkpoint"
            )


def _odd_kind(tensor: Tensor) -> str:
    if tensor.is_meta:
        return "a tensor without values (on the meta device)"
    if tensor.is_nested or tensor.layout != torch.strided:
        return "a nested tensor" if tensor.is_nested else "a sparse tensor"
    return "a quantised tensor" if tensor.is_quantized else ""


def _tensors(content: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in nested containers, which may hold themselves, and where they are."""
    seen, open_ends = set(), [("", content)]
    while open_ends:
        place, value = open_ends.pop()
        if isinstance(value, Tensor):
            yield place or "its content", value
        elif isinstance(value, Mapping | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
            open_ends += [(f"{place}.{key}".lstrip("."), item) for key, item in pairs]


def _refuse_containers(path: Path) -> None:
    with open(path, "rb") as file:
        start = file.read(4)
    if start == b"PK\x03\x04":
        if _is_program(path):
            raise CheckpointError(_refusal(path, "is a TorchScript program", _CONVERT_PROGRAM))
    elif start and tarfile.is_tarfile(path):
        raise CheckpointError(_refusal(path, "is a tar file of PyTorch 0.1"))


def _is_program(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.rpartition("/")[2] == "constants.pkl" for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False  # torch.load will say what is wrong with it


def _unpicklable(path: Path, reason: str) -> str:
    with open(path, "rb") as file:
        is_pickle = file.read(1) == b"\x80"
    other_objects = "GLOBAL" in reason or "allowlisted" in reason
    cut_off = any(words in reason for words in _CUT_OFF)
    if cut_off or not (is_pickle or other_objects):
        return _damaged(path, "no weights in it can be made out")
    found = re.search(r"GLOBAL ([\w.]+\w)", reason)
    needs = f"needs {found[1]}, " if found else "needs "
    return _refusal(path, f"{needs}more than tensors and plain values")


def _refusal(path: Path, what: str, script: str = _CONVERT) -> str:
    target = path.with_name(f"{path.stem}_weights.pt")
    command = f'python -c "{script}" {shlex.quote(str(path))} {shlex.quote(str(target))}'
    return (
        f"{path} {what}, so loading it could execute code: refused; if you trust it, convert it "
        f"where it was made: {command}"
    )


def _damaged(path: Path, error: Any) -> str:
    return (
        f"{path} is truncated, damaged or no PyTorch checkpoint ({path.stat().st_size} bytes; "
        f"{first_line(error)}); use another checkpoint or fetch the file again"
    )
