"""Files from the web, kept in PyTorch's download cache."""

import hashlib
import http.client
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch

from razorlite.core.errors import CheckpointError
from razorlite.core.files import atomic_write
from razorlite.core.tensor_files import first_line

_CHUNK = 1 << 20
_SECONDS = 60.0  # without an answer


def download(url: str, *, advice: str = "fetch it yourself and give the file's path") -> Path:
    """Return where the file of a URL lies, fetched unless it is there already.

    Files whose name ends in the first digits of their SHA-256 (`resnet18-f37072fd.pth`) are kept
    and shared under that name, as PyTorch does; all others under a name that the whole URL gives.
    A file takes its name only when all of it has come.

    Args:
        url: starts with http:// or https://.
        advice: what to do if it cannot be had.

    Raises:
        CheckpointError: no network, no such file, cut off, or another checksum.
        RunFolderError: the cache cannot be written.
    """
    target = _place(url)
    digits = _checksum(target.name)
    if target.is_file() and _is_whole(target, digits):
        return target
    try:
        with atomic_write(target) as file:
            _write(file, url, digits)
    except ValueError as error:
        raise CheckpointError(f"cannot download {url} ({error}); {advice}") from error
    return target


def _place(url: str) -> Path:
    last = urllib.parse.unquote(url.partition("?")[0].rpartition("/")[2])
    name = re.sub(r"[^\w.-]", "_", last).lstrip(".")[-100:] or "file"
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if _checksum(name):
        return folder / name
    return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"


def _checksum(name: str) -> str:
    """Return the digits in front of a name's ending, or nothing."""
    found = re.search(r"[^-].*-([0-9a-f]{8,64})\.\w+$", name)
    return found[1] if found else ""


def _is_whole(path: Path, digits: str) -> bool:
    if not digits:
        return True
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest().startswith(digits)


def _write(file: IO[bytes], url: str, digits: str) -> None:
    """Write what a URL gives into a file.

    Raises:
        ValueError: it cannot be had, or its checksum is another.
    """
    digest = hashlib.sha256()
    for chunk in _chunks(url):
        file.write(chunk)
        digest.update(chunk)
    found = digest.hexdigest()[: len(digits)]
    if found != digits:
        raise ValueError(f"its SHA-256 starts with {found}, not {digits}")


def _chunks(url: str) -> Iterator[bytes]:
    size = 0
    request = urllib.request.Request(url, headers={"User-Agent": "razorlite"})
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            while chunk := answer.read(_CHUNK):
                size += len(chunk)
                yield chunk
            expected = answer.headers.get("Content-Length")
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(first_line(error)) from error
    if expected is not None and size < int(expected):
        raise ValueError(f"the connection ended after {size} of {expected} bytes")
