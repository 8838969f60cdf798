"""Reading JSON as programs write it: any Unicode encoding, numbers of any length."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from razorlite.core.errors import DataError

_PACKED = {b"\x1f\x8b": "gunzip", b"PK\x03\x04": "unzip", b"BZh": "bunzip2"}
_kept: ContextVar[dict[Path, Any] | None] = ContextVar("_kept", default=None)


@contextmanager
def each_json_once() -> Iterator[None]:
    """Keep what JSON files say within the outermost block: each is read once, whoever asks."""
    known = _kept.get()
    before = _kept.set({} if known is None else known)
    try:
        yield
    finally:
        _kept.reset(before)


def read_json(path: Path) -> Any:
    """Return what a JSON file in UTF-8, 16 or 32, with or without a mark in front, says.

    Whole numbers of more digits than Python takes become infinite. The tree is not to be changed:
    within `each_json_once` others get the same.

    Raises:
        DataError: the file cannot be read, is packed, in another encoding, no JSON, nested too
            deeply or has a key twice in one object.
    """
    kept, key = _kept.get(), path.resolve()
    if kept is None:
        return _read(path)
    if key not in kept:
        kept[key] = _read(path)
    return kept[key]


def _read(path: Path) -> Any:
    text = _text(path)
    try:
        return _parse(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: malformed json: {error.msg}") from error
    except _TwiceError as error:
        raise DataError(
            f"{path}: an object has the key {str(error)!r} twice, with different values; which of "
            f"them counts is not known; keep one"
        ) from None
    except RecursionError:
        raise DataError(
            f"{path}: lists or objects lie too deeply inside each other to be read; expected COCO "
            f"json, which has a depth of five; export it anew"
        ) from None


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    for start, tool in _PACKED.items():
        if data.startswith(start):
            raise DataError(f"{path} is packed; expected plain json; unpack it ({tool})")
    encoding = json.detect_encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: not {encoding.upper()}, as json has to be: {error.reason}; save it "
            f"in UTF-8"
        ) from error


def _parse(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError:
        raise
    except ValueError:  # Python refuses whole numbers of thousands of digits
        return json.loads(text, object_pairs_hook=_object, parse_int=_whole)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if repr(value) != repr(found[key]):
                raise _TwiceError(key)
    return found


class _TwiceError(Exception):
    """A key that an object has twice, with different values."""


def _whole(text: str) -> float:
    return int(text) if len(text) < 400 else math.copysign(math.inf, -1 if text[0] == "-" else 1)
