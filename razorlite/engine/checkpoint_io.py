"""Checkpoints: written whole or not at all, read without executing anything in them."""

import os
import shutil
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from razorlite.core.downloads import download
from razorlite.core.errors import CheckpointError, RunFolderError
from razorlite.core.files import atomic_write, explain_write_errors
from razorlite.core.registry import suggestion
from razorlite.core.tensor_files import first_line, read_tensor_file

FORMAT = 1


def save_checkpoint(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint; a failure leaves the file of that name as it was.

    Raises:
        RunFolderError: the disk is full, the folder read-only, ….
    """
    with atomic_write(path) as file:
        try:
            torch.save(_in_order({"format": FORMAT, **content}, {}), file)
        except RuntimeError as error:  # PyTorch's zip writer hides the system's error
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise RunFolderError(
                f"cannot write {path}: {first_line(error)}; free some space or choose another "
                f"folder"
            ) from error


def _in_order(tree: Any, seen: dict[Any, Tensor]) -> Any:
    """Return content whose tensors lie in memory in the usual order, shared ones still shared.

    A file then does not depend on how the model was laid out while it was trained.
    """
    if isinstance(tree, Tensor):
        key = tree.data_ptr(), tree.shape, tree.stride(), tree.dtype
        return seen.setdefault(key, tree.contiguous())
    if isinstance(tree, dict):
        new = type(tree)((name, _in_order(value, seen)) for name, value in tree.items())
        if isinstance(tree, OrderedDict):
            vars(new).update(vars(tree))  # a state dict's versions
        return new
    if isinstance(tree, list | tuple):
        return type(tree)(_in_order(value, seen) for value in tree)
    return tree


def read_checkpoint(path: str | Path, *, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a file of tensors and plain values.

    Args:
        path: a local file, or a URL (kept in PyTorch's download cache).
        device: where tensors go.

    Raises:
        CheckpointError: no such file, truncated, damaged, not a checkpoint, or one that holds
            objects whose loading would execute code; then the message says how to convert it.
    """
    url = str(path).startswith(("http://", "https://"))
    path = download(str(path)) if url else Path(path)
    if not path.is_file():
        raise CheckpointError(_absent(path))
    content = read_tensor_file(path, device)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, no checkpoint; name a file with a state dict"
        )
    return dict(content)


def read_training_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint that training can go on from.

    Raises:
        CheckpointError: it cannot be read, holds weights only, or is of a newer format.
    """
    content = read_checkpoint(path)
    written = content.get("format", FORMAT)
    if type(written) is not int or written != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {str(written)[:40]}, this version reads {FORMAT}; "
            f"update razorlite"
        )
    missing = [key for key in ("model", "optimizer", "progress", "rng") if key not in content]
    if missing:
        raise CheckpointError(
            f"{path} holds no {' and no '.join(missing)}, so training cannot go on from it; "
            f"resume from last.pt, or start a new run from these weights with load_from"
        )
    return content


def keep_copy(source: Path, copy: Path, *, pattern: str, keep: int) -> None:
    """Give a file a second name, and remove the oldest files of a pattern beyond `keep`.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    with explain_write_errors(copy):
        copy.unlink(missing_ok=True)
        try:
            os.link(source, copy)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, copy)
        for old in sorted(copy.parent.glob(pattern))[:-keep]:
            old.unlink()


def _absent(path: Path) -> str:
    if path.is_dir():
        inside = path / "checkpoints" / "last.pt"
        hint = f"name {inside}" if inside.exists() else "name a file in it"
        return f"{path} is a folder, not a checkpoint; {hint}"
    if os.path.lexists(path):
        return f"{path} is no file that can be read (a device, pipe or broken link); check the path"
    folder = path.parent
    others = [p.name for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
    return f"no checkpoint {path}{suggestion(path.name, others) or '; check the path'}"
