"""Reading pickles of plain values and arrays, and nothing else: no code in them runs."""

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from razorlite.core.errors import DataError


class _Plain(pickle.Unpickler):
    """Knows what arrays and numbers of numpy are made of, by the names of old and new versions."""

    def find_class(self, module: str, name: str) -> Any:
        root, _, rest = module.partition(".")
        if root == "numpy" and (rest, name) in _OF_NUMPY:
            return _OF_NUMPY[rest, name]
        if (module, name) in _OTHERS:
            return _OTHERS[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which may run code")


def _array(kind: type, shape: tuple[int, ...], dtype: bytes) -> Any:
    """Return an empty array, which the pickle then fills."""
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _number(dtype: Any, data: bytes) -> Any:
    """Return a number of its bytes."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise pickle.UnpicklingError("it has a number of an unknown kind")
    return np.frombuffer(data, dtype, 1)[0]


def _buffer(data: bytes, dtype: Any, shape: tuple[int, ...], order: str) -> Any:
    """Return an array of its bytes."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise pickle.UnpicklingError("it has an array of an unknown kind")
    return np.frombuffer(data, dtype).reshape(shape, order=order)  # type: ignore[call-overload]


_OF_NUMPY: dict[tuple[str, str], Any] = {("", "dtype"): np.dtype, ("", "ndarray"): np.ndarray} | {
    (f"{core}.{module}", name): made
    for core in ("core", "_core")
    for module, name, made in (
        ("multiarray", "_reconstruct", _array),
        ("multiarray", "scalar", _number),
        ("numeric", "_frombuffer", _buffer),
    )
}


def _encoded(text: str, encoding: str) -> bytes:
    """Return bytes as old protocols write them."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("it has bytes of an unknown encoding")
    return text.encode("latin1")


_OTHERS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encoded,
}


def read_plain_pickle(path: Path) -> Any:
    """Return what a pickle holds: numbers, texts, lists, dicts and arrays.

    Raises:
        DataError: it cannot be read, or asks for anything else, which is not imported.
    """
    try:
        return _Plain(io.BytesIO(path.read_bytes())).load()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # whatever malformed bytes make of it
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path} is no pickle of plain values and arrays: {reason}; convert it to JSON where "
            f"you trust it"
        ) from error
