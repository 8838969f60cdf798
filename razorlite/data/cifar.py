"""CIFAR-10 as an archive of image files, and as the batches it was published in."""

import lzma
import pickle
import tarfile
import zlib
from collections import Counter
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from razorlite.core.errors import DataError
from razorlite.core.files import resolve
from razorlite.core.ranges import Count
from razorlite.core.registry import register
from razorlite.data.classification import LabelledImages
from razorlite.data.dataset import ClassNames
from razorlite.data.faults import FaultReport, first_line
from razorlite.data.files import is_hidden, near, need_file, need_folder
from razorlite.data.images import IMAGE_SUFFIXES, Decoding

_MEMBER_BYTES = 1 << 26  # of the largest image file that is read from an archive


@register()
class CifarTarDataset(LabelledImages):
    """CIFAR-10 as image files in a tar archive: train/<class>/0000.jpg, test/<class>/….

    The archive is read once into memory, not unpacked; images are decoded when wanted.

    Args:
        archive: tar file, compressed or not.
        split: first folder inside the archive.
        classes: class folders in the order of the labels; all, sorted, by default.
        per_class: keep only the first so many images of each class.
        cache: keep decoded images in memory.

    Raises:
        DataError: the archive is missing or malformed, or has no such split or class.
    """

    def __init__(
        self,
        *,
        archive: str,
        split: str = "train",
        classes: ClassNames | None = None,
        per_class: Count | None = None,
        cache: bool = False,
    ) -> None:
        path = need_file(resolve(archive), "archive")
        report = FaultReport(str(path))
        files, too_large = _tar_files(path, path.stat().st_mtime_ns, split, per_class)
        for name, size in too_large.items():
            report.add(f"{path}/{name}", "file too large for an image", f"{size}")
        known = sorted({name.split("/")[1] for name in files})
        names = tuple(classes) if classes is not None else tuple(known)
        for name in names:
            if name not in known:
                raise DataError(f"{path} has no class {split}/{name}{near(name, known)}")
        order = {name: label for label, name in enumerate(names)}
        chosen = sorted(name for name in files if name.split("/")[1] in order)
        self._files = [files[name] for name in chosen]
        items = [(f"{path}/{name}", order[name.split("/")[1]]) for name in chosen]
        report.close(len(items), len(items))
        super().__init__(items=items, root=path, classes=names, report=report, cache=cache)

    def _read(self, index: int) -> Tensor:
        return Decoding().decode(self._files[index])


@register()
class CifarBatchesDataset(LabelledImages):
    """CIFAR-10 as its original Python batches (the folder torchvision unpacks).

    The batch files are read with an unpickler that knows nothing but plain values and arrays.

    Args:
        root: folder with data_batch_1 … data_batch_5, test_batch and batches.meta.
        split: "train" or "test".

    Raises:
        DataError: a file is missing or malformed.
    """

    def __init__(self, *, root: str, split: str = "train") -> None:
        folder = need_folder(resolve(root), "CIFAR folder")
        if split not in ("train", "test"):
            raise DataError(f"CIFAR-10 has the splits train and test, got {split!r}")
        numbers = [f"data_batch_{n}" for n in range(1, 6)] if split == "train" else ["test_batch"]
        batches = [_batch(need_file(folder / name, "CIFAR batch")) for name in numbers]
        classes = _class_names(need_file(folder / "batches.meta", "CIFAR class list"))
        self._pixels = np.concatenate([pixels for pixels, _ in batches])
        labels = [label for _, batch in batches for label in batch]
        if not all(0 <= label < len(classes) for label in labels):
            raise DataError(
                f"{folder}: labels from 0 to {len(classes) - 1} expected, got {sorted(set(labels))}"
            )
        items = [(f"{folder}/{split}/{i}", label) for i, label in enumerate(labels)]
        report = FaultReport(str(folder))
        super().__init__(items=items, root=folder, classes=classes, report=report, cache=False)

    def _read(self, index: int) -> Tensor:
        return torch.from_numpy(self._pixels[index].reshape(3, 32, 32).copy())


class _PlainUnpickler(pickle.Unpickler):
    _ALLOWED = (
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("_codecs", "encode"),
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it wants {module}.{name}")
        return super().find_class(module, name)


def _batch(path: Path) -> tuple[np.ndarray, list[int]]:
    """Return (N, 3072) uint8 pixels and N labels."""
    content = _unpickle(path)
    try:
        pixels, labels = np.asarray(content["data"]), [int(label) for label in content["labels"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no CIFAR batch: expected data and labels") from error
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3072):
        raise DataError(
            f"{path} is no CIFAR batch: expected ({len(labels)}, 3072) uint8 pixels for its "
            f"labels, got {pixels.shape} {pixels.dtype}"
        )
    return pixels, labels


def _class_names(path: Path) -> tuple[str, ...]:
    content = _unpickle(path)
    try:
        return tuple(str(name) for name in content["label_names"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is no CIFAR class list: expected label_names") from error


def _unpickle(path: Path) -> Any:
    try:
        with open(path, "rb") as file:
            return _PlainUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a broken pickle can ask for anything
        raise DataError(f"{path} is no CIFAR batch: {first_line(error)}") from error


@lru_cache(maxsize=4)
def _tar_files(
    path: Path, changed: int, split: str, per_class: int | None
) -> tuple[dict[str, bytes], dict[str, int]]:
    """Return the expected files of a split by name, and the size of those that are too large.

    They are read in one pass, once for the data sets of a process while the file does not change.
    """
    files: dict[str, bytes] = {}
    too_large: dict[str, int] = {}
    counts: Counter[str] = Counter()
    splits: set[str] = set()
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                parts = tuple(p for p in PurePosixPath(member.name).parts if p != "/")
                splits.update(parts[:1])
                if not _is_image(member, parts, split):
                    continue
                if member.size > _MEMBER_BYTES:
                    too_large[member.name] = member.size
                    continue
                counts[parts[1]] += 1
                if per_class is None or counts[parts[1]] <= per_class:
                    content = archive.extractfile(member)
                    assert content is not None
                    files["/".join(parts)] = content.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise DataError(f"{path} is no readable tar archive: {first_line(error)}") from error
    if not files:
        raise DataError(f"{path} has no images under {split}/<class>/{near(split, splits)}")
    return files, too_large


def _is_image(member: tarfile.TarInfo, parts: tuple[str, ...], split: str) -> bool:
    """Return whether a member is an image of the split."""
    if len(parts) != 3 or parts[0] != split or not member.isfile():
        return False
    return not any(map(is_hidden, parts)) and parts[2].lower().endswith(IMAGE_SUFFIXES)
