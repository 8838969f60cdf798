"""Images with one label each, in class folders."""

import logging
from abc import abstractmethod
from pathlib import Path

from torch import Tensor

from razorlite.core.distributed import is_main
from razorlite.core.errors import DataError
from razorlite.core.files import resolve
from razorlite.core.registry import register
from razorlite.data.dataset import ClassNames, Dataset, Kept
from razorlite.data.faults import Fault, FaultReport, first_line
from razorlite.data.files import files_under, is_hidden, need_folder, relative
from razorlite.data.images import IMAGE_SUFFIXES, Decoding, tell_orientations
from razorlite.structures import Label

_log = logging.getLogger(__name__)


class LabelledImages(Dataset):
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

    def __getitem__(self, index: int) -> tuple[Tensor, Label]:
        return self._kept.get(index, self._read), Label(self.labels[index])

    def labels_of(self, index: int) -> set[int]:
        """Return the label of an item."""
        return {self.labels[index]}

    def count(self, index: int) -> int:
        """Return 1, for the label."""
        return 1

    def annotation_bytes(self, index: int) -> bytes:
        """Return the label."""
        return str(self.labels[index]).encode()

    def note(self, fault: Fault) -> None:
        """Take a fault met while training."""
        self._report.late(fault)

    def keep_image(self, index: int) -> None:
        """Decode one image and keep it, if the data set keeps images in memory."""
        self._kept.try_get(index, self._read)

    @abstractmethod
    def _read(self, index: int) -> Tensor:
        """Return the image of an item."""


@register()
class ImageFolderDataset(LabelledImages):
    """Images in one folder for each class: root/dog/a.jpg, root/cat/b.png.

    Hidden files, and files without the suffix of an image, are left out.

    Args:
        root: folder of the class folders.
        classes: class folders in the order of the labels; all, sorted, by default.
        check_images: read every image's header, to find cut-off files now.
        decoding: how image files are read.
        cache: keep decoded images in memory.
        strict: raise all faults instead of dropping.

    Raises:
        DataError: a folder is missing, nothing usable is left, or faults with `strict`.
    """

    def __init__(
        self,
        *,
        root: str,
        classes: ClassNames | None = None,
        check_images: bool = True,
        decoding: Decoding | None = None,
        cache: bool = False,
        strict: bool = False,
    ) -> None:
        base = need_folder(resolve(root), "image folder")
        names = _class_folders(base) if classes is None else classes
        self._decoding = decoding or Decoding()
        report = FaultReport(str(base), strict)
        listing = _Listing(report, self._decoding if check_images else None)
        items = [
            (str(file), label)
            for label, name in enumerate(names)
            for file in listing.images(need_folder(base / name, "class folder"))
        ]
        report.close(len(items), len(items))
        listing.tell()
        super().__init__(items=items, root=base, classes=tuple(names), report=report, cache=cache)

    def _read(self, index: int) -> Tensor:
        return self._decoding.read(self.keys[index])


class _Listing:
    """Finds the images of class folders, noting what is wrong.

    Args:
        report: takes faults.
        decoding: reads the headers; None leaves the images unread.
    """

    def __init__(self, report: FaultReport, decoding: Decoding | None) -> None:
        self.report, self.decoding = report, decoding
        self._turned: dict[bool, list[str]] = {True: [], False: []}
        self._others: list[Path] = []

    def images(self, folder: Path) -> list[Path]:
        """Return the images in a class folder and below it, sorted."""
        files = files_under(folder)
        found = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
        self._others += [file for file in files if file.suffix.lower() not in IMAGE_SUFFIXES]
        if not found:
            self.report.add(folder, "class folder without images")
        return [file for file in found if self.decoding is None or self._readable(file)]

    def tell(self) -> None:
        """Log what is no fault, but not what everyone expects."""
        source = self.report.source
        tell_orientations(source, self._turned[True], self._turned[False])
        if self._others and is_main():
            _log.warning(
                "%s: %d files do not have the suffix of an image and are left out; the first is %s",
                source, len(self._others), self._others[0],
            )  # fmt: skip

    def _readable(self, file: Path) -> bool:
        assert self.decoding is not None
        try:
            header = self.decoding.header(file)
        except OSError as error:
            self.report.add(file, "unreadable image", first_line(error))
            return False
        if header.orientation != 1:
            self._turned[self.decoding.applies(header)].append(str(file))
        return True


def _class_folders(base: Path) -> list[str]:
    """Return the names of the class folders, sorted.

    Raises:
        DataError: there are none.
    """
    names = sorted(e.name for e in base.iterdir() if e.is_dir() and not is_hidden(e.name))
    if not names:
        raise DataError(f"{base} holds no class folders; expected {base.name}/<class>/<image>")
    if len(names) == 1 and is_main():
        _log.warning("%s: there is one class only, %r; nothing to tell apart", base, names[0])
    return names
