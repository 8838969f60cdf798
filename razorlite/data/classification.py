"""Images with one label each: class folders, and CIFAR-10 as an archive of image files."""

import pickle
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from razorlite.core.errors import DataError
from razorlite.core.registry import register
from razorlite.data.dataset import Dataset, Kept
from razorlite.data.faults import Fault, FaultReport
from razorlite.data.files import (
    IMAGE_SUFFIXES,
    decode,
    near,
    need_file,
    need_folder,
    read_header,
    read_image,
    relative,
    resolve,
)


class _LabelledImages(Dataset):
    """Items of (key below root, label) with a way to read an image, and optional memory."""

    def __init__(
        self,
        *,
        items: list[tuple[str, int]],
        root: Path,
        classes: tuple[str, ...],
        report: FaultReport,
        cache: bool,
    ) -> None:
        self._root = root
        self.classes = classes
        self.keys = [key for key, _ in items]
        self.labels = [label for _, label in items]
        self._report = report
        self._kept: Kept[Tensor] = Kept(cache)

    @property
    def faults(self) -> list[Fault]:
        """What is wrong with the data and was left out."""
        return self._report.faults

    @property
    def names(self) -> list[str]:
        """The images' paths relative to the folder or archive."""
        return [relative(key, self._root) for key in self.keys]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._kept.get(index, self._read), self.labels[index]

    def labels_of(self, index: int) -> set[int]:
        """Return the label of an item."""
        return {self.labels[index]}

    def annotation_bytes(self, index: int) -> bytes:
        """Return the label."""
        return str(self.labels[index]).encode()

    def note(self, fault: Fault) -> None:
        """Take a fault met while training."""
        self._report.late(fault)

    def keep_image(self, index: int) -> None:
        """Decode one image and keep it, if the data set keeps images in memory."""
        self._kept.try_get(index, self._read)

    def _read(self, index: int) -> Tensor:
        return read_image(self.keys[index])


@register()
class ImageFolderDataset(_LabelledImages):
    """Images in one folder for each class: root/dog/a.jpg, root/cat/b.png.

    Args:
        root: folder of the class folders.
        classes: class folders in the order of the labels; all, sorted, by default.
        check_images: read every image's header, to find cut-off files now.
        cache: keep decoded images in memory.
        strict: raise all faults instead of dropping.

    Raises:
        DataError: a folder is missing, nothing usable is left, or faults with `strict`.
    """

    def __init__(
        self,
        *,
        root: str,
        classes: list[str] | None = None,
        check_images: bool = True,
        cache: bool = False,
        strict: bool = False,
    ) -> None:
        base = need_folder(resolve(root), "image folder")
        names = classes or sorted(entry.name for entry in base.iterdir() if entry.is_dir())
        report = FaultReport(str(base), strict)
        items: list[tuple[str, int]] = []
        for label, name in enumerate(names):
            files = _images_under(need_folder(base / name, "class folder"))
            if check_images:
                files = [file for file in files if _readable(file, report)]
            items += [(str(file), label) for file in files]
        report.close(len(items), len(items))
        super().__init__(items=items, root=base, classes=tuple(names), report=report, cache=cache)


@register()
class CifarTarDataset(_LabelledImages):
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
        classes: list[str] | None = None,
        per_class: int | None = None,
        cache: bool = False,
    ) -> None:
        path = need_file(resolve(archive), "archive")
        files = _tar_files(path, split, per_class)
        known = sorted({name.split("/")[1] for name in files})
        names = tuple(classes) if classes is not None else tuple(known)
        for name in names:
            if name not in known:
                raise DataError(f"{path} has no class {split}/{name}{near(name, known)}")
        order = {name: label for label, name in enumerate(names)}
        chosen = sorted(name for name in files if name.split("/")[1] in order)
        self._files = [files[name] for name in chosen]
        items = [(f"{path}/{name}", order[name.split("/")[1]]) for name in chosen]
        report = FaultReport(str(path))
        super().__init__(items=items, root=path, classes=names, report=report, cache=cache)

    def _read(self, index: int) -> Tensor:
        return decode(self._files[index])


@register()
class CifarBatchesDataset(_LabelledImages):
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
        batches = [_unpickle(need_file(folder / name, "CIFAR batch")) for name in numbers]
        meta = _unpickle(need_file(folder / "batches.meta", "CIFAR class list"))
        self._pixels = np.concatenate([np.asarray(b["data"], np.uint8) for b in batches])
        labels = [int(label) for batch in batches for label in batch["labels"]]
        items = [(f"{folder}/{split}/{i}", label) for i, label in enumerate(labels)]
        classes = tuple(meta["label_names"])
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


def _unpickle(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return _PlainUnpickler(file, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError) as error:
        raise DataError(f"{path} is no CIFAR batch: {error}") from error


def _images_under(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)


def _readable(file: Path, report: FaultReport) -> bool:
    try:
        read_header(file)
    except OSError as error:
        report.add(file, "unreadable image", str(error))
        return False
    return True


def _tar_files(path: Path, split: str, per_class: int | None) -> dict[str, bytes]:
    """Return the wanted files of a split by name, read in one pass."""
    files: dict[str, bytes] = {}
    counts: Counter[str] = Counter()
    splits: set[str] = set()
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                parts = member.name.removeprefix("./").split("/")
                splits.add(parts[0])
                if len(parts) != 3 or parts[0] != split or not member.isfile():
                    continue
                counts[parts[1]] += 1
                if per_class is None or counts[parts[1]] <= per_class:
                    content = archive.extractfile(member)
                    assert content is not None
                    files["/".join(parts)] = content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path} is no readable tar archive: {error}") from error
    if not files:
        raise DataError(f"{path} has no images under {split}/<class>/{near(split, splits)}")
    return files
