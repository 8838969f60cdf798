"""Files of tensors and plain values, read without executing anything in them."""

import pickle
import re
import shlex
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from razorlite.core.errors import CheckpointError

_CONVERT = (
    "import sys, torch; c = torch.load(sys.argv[1], 'cpu', weights_only=False); "
    "c = c.get('state_dict', c.get('model', c)); torch.save({'state_dict': c}, sys.argv[2])"
)
_CONVERT_PROGRAM = (
    "import sys, torch; c = torch.jit.load(sys.argv[1], 'cpu'); "
    "torch.save({'state_dict': c.state_dict()}, sys.argv[2])"
)

_CUT_OFF = ("Failed to load pickle data", "unexpected EOF", "truncated", "Ran out of input")


def read_tensor_file(path: str | Path, device: str | torch.device = "cpu") -> Any:
    """Return what `torch.save` wrote, if it is made of tensors and plain values.

    PyTorch's restricted unpickler reads it. Two kinds of files do not come that far: TorchScript
    programs, and the tar files of PyTorch 0.1, which could execute code before PyTorch 2.6 even so
    (CVE-2025-32434).

    Args:
        path: a local file that exists.
        device: where tensors go.

    Raises:
        CheckpointError: truncated, damaged, no PyTorch file, or one that needs more than tensors
            and plain values; then the message has the command that converts it.
    """
    path = Path(path)
    _refuse_containers(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_unpicklable(path, str(error))) from error
    except Exception as error:  # bytes that make no sense can raise anything
        raise CheckpointError(_damaged(path, error)) from error


def first_line(error: Any) -> str:
    """Return the first line of an error's message, shortened, or its kind."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:120]


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
