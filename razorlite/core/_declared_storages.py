"""What a file of tensors says of the size of its parts, held against what is there.

PyTorch takes these sizes on trust: a storage declared larger than its bytes is read past
its end, and a packed entry of a few bytes may unfold to terabytes. So the pickle in the file is
gone through first, with stand-ins for all that it names: nothing of it is called.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

_LEGACY = 0x1950A86A20F9469CFC6C  # what torch.save wrote first before its files were zip archives
_CHUNK = 1 << 20
_MOST_PACKED = 8  # torch.save does not pack; weights that others have packed shrink by less
_SIZES = {
    **dict.fromkeys(("ComplexDouble",), 16),
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    **dict.fromkeys(("Float", "Int", "QInt32"), 4),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Byte", "Char", "Bool", "Untyped", "QInt8", "QUInt8"), 1),
    **dict.fromkeys(("QUInt4x2", "QUInt2x4"), 1),
}


def check_archive(path: Path) -> None:
    """Check a zip archive of `torch.save`, checksums included: PyTorch leaves out the weights'.

    Raises:
        ValueError: its parts are not as large as it says, or it is none.
        zipfile.BadZipFile: a part is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        if len(sizes) < len(archive.infolist()):
            raise ValueError("two parts have the same name")
        if sum(sizes.values()) > _MOST_PACKED * path.stat().st_size:
            raise ValueError(f"its parts would unfold to {sum(sizes.values())} bytes")
        root = next((name for name in sizes if name.endswith("/data.pkl")), "")
        if not root:
            raise ValueError("a zip archive without tensors")
        _read_all(archive)
        declared = _storages(io.BytesIO(archive.read(root)))
    folder = root.removesuffix("data.pkl") + "data/"
    _check_sizes(declared, {name.removeprefix(folder): size for name, size in sizes.items()})


def _read_all(archive: zipfile.ZipFile) -> None:
    for entry in archive.infolist():
        if not entry.CRC:  # PyTorch computed none on request
            del entry.CRC
        with archive.open(entry) as part:
            while part.read(_CHUNK):
                pass


def check_legacy(path: Path) -> None:
    """Check that a file of PyTorch before 1.6 holds every storage it names.

    PyTorch itself checks the sizes of those that are there.

    Raises:
        ValueError: one is missing.
    """
    with open(path, "rb") as file:
        if _Reader(file).load() != _LEGACY:
            return
        for _ in ("protocol", "system"):
            _Reader(file).load()
        declared = _storages(file)
        there = set(_Reader(file).load())
    missing = [key for _, key, _ in declared if key not in there]
    if missing:
        raise ValueError(f"storage {missing[0]!r} is missing")


def _check_sizes(declared: Iterable[tuple[str, str, int]], sizes: dict[str, int]) -> None:
    for kind, key, count in declared:
        name = kind.removesuffix("Storage")
        if name not in _SIZES or type(count) is not int or count < 0 or key not in sizes:
            raise ValueError(f"storage {key!r} of {count} values {name} is not there")
        if count * _SIZES[name] > sizes[key]:
            raise ValueError(
                f"storage {key!r} is declared to hold {count} values, but has {sizes[key]} bytes"
            )


def _storages(file: IO[bytes]) -> list[tuple[str, str, int]]:
    """Return kind, key and number of values of all storages that a pickle names."""
    reader = _Reader(file)
    reader.load()
    return reader.storages


class _Reader(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """Python's own unpickler, whose memory the file cannot blow up, over stand-ins."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")
        self.storages: list[tuple[str, str, int]] = []

    def find_class(self, module: str, name: str) -> Any:
        return OrderedDict if name == "OrderedDict" else type(str(name), (_StandIn,), {})

    def get_extension(self, code: int) -> None:
        raise ValueError("it names objects by numbers")

    def persistent_load(self, saved: Any) -> Any:
        if not (isinstance(saved, tuple) and len(saved) >= 5 and saved[0] == "storage"):
            raise ValueError("it names something other than a storage")
        kind = getattr(saved[1], "__name__", str(saved[1]))
        self.storages.append((kind, str(saved[2]), saved[4]))
        return _StandIn()


class _StandIn:
    """Takes everything that a pickle can do to an object, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...

    def add(self, item: Any) -> None: ...
