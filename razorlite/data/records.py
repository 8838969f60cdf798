"""The common part of annotated image folders: records, boxes put right, decoding, memory."""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from razorlite.data._segments import SegmentError, box_around, decode_segments, read_segment
from razorlite.data.dataset import Dataset, Kept
from razorlite.data.faults import UNREADABLE, Fault, FaultReport, first_line
from razorlite.data.files import relative, true_paths
from razorlite.data.images import Decoding, Header, tell_orientations
from razorlite.structures import Target

CROWDS = "marked as crowd or difficult"  # a reason for which objects do not count


@dataclass
class Record:
    """One image and its objects, as read from the annotations.

    Attributes:
        path: the image file.
        image_id: the data set's identifier.
        size: (height, width) of the image as it is decoded.
        boxes: (N, 4) float32 x1, y1, x2, y2.
        labels: (N,) int64.
        crowd: (N,) bool.
        area: (N,) float32, or None.
        segments: N masks, as the file has them at first, once checked as `read_segment` returns
            them; None for single objects where nothing is wanted of them, None without masks.
        names: N words for the objects in messages, or None.
        turned: whether the EXIF orientation is applied; None where there is none, or not yet known.
    """

    path: Path
    image_id: int | str
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    area: np.ndarray | None = None
    segments: list[Any] | None = None
    names: list[str] | None = None
    turned: bool | None = None

    def keep(self, mask: np.ndarray) -> None:
        """Leave out the objects where `mask` is false."""
        self.boxes, self.labels, self.crowd = (
            self.boxes[mask],
            self.labels[mask],
            self.crowd[mask],
        )
        if self.area is not None:
            self.area = self.area[mask]
        if self.segments is not None:
            self.segments = [s for s, kept in zip(self.segments, mask, strict=True) if kept]
        if self.names is not None:
            self.names = [name for name, kept in zip(self.names, mask, strict=True) if kept]

    def relabelled(self, new: Tensor) -> "Record":
        """Return the record with other labels; `new` (C,) int64 has one for each old one."""
        return replace(self, labels=new.numpy()[self.labels])

    def renumbered(self, image_id: int) -> "Record":
        """Return the record with another `image_id`."""
        return replace(self, image_id=image_id)

    def called(self, index: int) -> str:
        """Return " (annotation 5)" for messages about an object that has a name, else nothing."""
        return f" ({self.names[index]})" if self.names else ""


@dataclass
class Objects:
    """Collects the objects of one image while annotations are read.

    Boxes and areas of NaN are those of the mask, filled in once that is checked.
    """

    boxes: list[list[float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    area: list[float] = field(default_factory=list)
    segments: list[Any] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def record(self, path: Path, image_id: int | str, size: tuple[int, int]) -> Record:
        """Return the image's record."""
        with np.errstate(over="ignore"):  # what float32 does not hold is a fault found later
            boxes = np.array(self.boxes, dtype=np.float32).reshape(-1, 4)
            area = np.array(self.area, dtype=np.float32) if self.area else None
        return Record(
            path=path,
            image_id=image_id,
            size=size,
            boxes=boxes,
            labels=np.array(self.labels, dtype=np.int64),
            crowd=np.array(self.crowd, dtype=bool),
            area=area,
            segments=self.segments or None,
            names=self.names or None,
        )


def check_image(record: Record, report: FaultReport, decoding: Decoding) -> bool:
    """Read the header, fix the record's size; return whether the image is usable."""
    try:
        header = decoding.header(record.path)
    except FileNotFoundError:
        report.add(record.path, "missing image")
        return False
    except OSError as error:
        report.add(record.path, UNREADABLE, first_line(error))
        return False
    return _settle_size(record, header, report, decoding)


def _settle_size(record: Record, header: Header, report: FaultReport, decoding: Decoding) -> bool:
    upright = decoding.applies(header, record.size)
    size = header.upright_size if upright else header.size
    record.turned = None if header.orientation == 1 else upright
    if record.size in ((0, 0), size):
        record.size = size
        return True
    report.add(
        record.path,
        "image size differs from the annotation",
        f"the file is {size[1]} x {size[0]}, annotated {record.size[1]} x {record.size[0]}",
    )
    return False


def check_segments(record: Record, report: FaultReport, masks: bool) -> None:
    """Drop objects whose mask is not one; take boxes that are not given from masks.

    Args:
        record: the image, its size known.
        report: gets the faults.
        masks: keep the masks; otherwise only those are looked at that have no box beside them.
    """
    wrong = np.zeros(len(record.boxes), dtype=bool)
    for index, segment in enumerate(record.segments or ()):
        if segment is None:
            continue
        try:
            _check_segment(record, index, segment)
        except SegmentError as error:
            report.add(record.path, error.kind, error.detail + record.called(index))
            wrong[index] = True
    if wrong.any():
        record.keep(~wrong)
    if not masks:
        record.segments = None


def _check_segment(record: Record, index: int, segment: Any) -> None:
    assert record.segments is not None
    record.segments[index] = parts = read_segment(segment, record.size)
    if np.isnan(record.boxes[index]).all():
        x1, y1, x2, y2 = box_around(parts, record.size)
        record.boxes[index] = x1, y1, x2, y2
        if record.area is not None and np.isnan(record.area[index]):
            record.area[index] = (x2 - x1) * (y2 - y1)


def check_boxes(record: Record, report: FaultReport) -> None:
    """Drop boxes that are not finite, empty, inverted or outside; clip those partly outside."""
    boxes, (height, width) = record.boxes, record.size
    finite = np.isfinite(boxes).all(axis=1)
    flat = finite & ((boxes[:, 2] == boxes[:, 0]) | (boxes[:, 3] == boxes[:, 1]))
    inverted = finite & ~flat & ((boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1]))
    limits = np.array([width, height, width, height], dtype=np.float32)
    clipped = np.clip(np.where(finite[:, None], boxes, 0), 0, limits)
    lost = (clipped[:, 2] <= clipped[:, 0]) | (clipped[:, 3] <= clipped[:, 1])
    outside = finite & ~flat & ~inverted & lost
    kinds = {"box of NaN or infinity": ~finite, "zero-area box": flat, "inverted box": inverted}
    for kind, wrong in {**kinds, "box outside the image": outside}.items():
        for index in wrong.nonzero()[0]:
            report.add(record.path, kind, _written(record, index))
    _note_clipped(record, clipped, finite & ~flat & ~inverted & ~lost, report)
    record.boxes = clipped
    record.keep(finite & ~flat & ~inverted & ~outside)


def _note_clipped(
    record: Record, clipped: np.ndarray, kept: np.ndarray, report: FaultReport
) -> None:
    far = np.abs(clipped - np.where(kept[:, None], record.boxes, clipped)).max(axis=1, initial=0)
    for index in (far > 1.0).nonzero()[0]:  # a pixel of rounding at the border is no fault
        report.add(record.path, "box partly outside the image, clipped", _written(record, index))


def _written(record: Record, index: int) -> str:
    return " ".join(f"{value:g}" for value in record.boxes[index]) + record.called(index)


class RecordDataset(Dataset):
    """Images with boxes, from a list of records."""

    def __init__(
        self,
        *,
        records: list[Record],
        root: Path,
        classes: tuple[str, ...],
        report: FaultReport,
        masks: bool,
        cache: bool,
        decoding: Decoding,
    ) -> None:
        """Take records whose images lie below `root`."""
        self.records = records
        self.classes = classes
        self.keys = true_paths(record.path for record in records)
        self._root = root
        self._report = report
        self._masks, self._decoding = masks, decoding
        self._kept: Kept[Tensor] = Kept(cache)

    @property
    def faults(self) -> list[Fault]:
        """What is wrong with the data and was left out."""
        return self._report.faults

    @property
    def names(self) -> list[str]:
        """The images' paths relative to the image folder."""
        return [relative(record.path, self._root) for record in self.records]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        record = self.records[index]
        image = self._kept.get(index, self._read)
        if tuple(image.shape[-2:]) != record.size:
            raise OSError(f"the file is {image.shape[2]} x {image.shape[1]}, not as annotated")
        return image, self._target(record)

    def labels_of(self, index: int) -> set[int]:
        """Return the labels of an item, crowds' too."""
        return set(self.records[index].labels.tolist())

    def count(self, index: int) -> int:
        """Return how many objects of an item are no crowds."""
        return int((~self.records[index].crowd).sum())

    def left_out(self) -> Counter[str]:
        """Return how many entries of the annotations do not count, by reason."""
        crowds = sum(int(record.crowd.sum()) for record in self.records)
        return super().left_out() + self._report.aside + Counter({CROWDS: crowds})

    def annotation_bytes(self, index: int) -> bytes:
        """Return sizes, boxes, areas, labels, marks of crowds and, if they are used, masks."""
        record = self.records[index]
        segments = repr(record.segments).encode() if self._masks else b""
        area = np.zeros(0, np.float32) if record.area is None else record.area
        size = np.array(record.size, dtype=np.int64)
        arrays = [size, record.boxes, area, record.labels, record.crowd]
        return b"".join(array.tobytes() for array in arrays) + segments

    def note(self, fault: Fault) -> None:
        """Take a fault met while training."""
        self._report.late(fault)

    def keep_image(self, index: int) -> None:
        """Decode one image and keep it, if the data set keeps images in memory."""
        self._kept.try_get(index, self._read)

    def _read(self, index: int) -> Tensor:
        return self._decoding.read(self.records[index].path, self.records[index].size)

    def _target(self, record: Record) -> Target:
        return Target(
            boxes=torch.from_numpy(record.boxes.copy()),
            labels=torch.from_numpy(record.labels.copy()),
            crowd=torch.from_numpy(record.crowd.copy()),
            masks=decode_segments(record.segments or [], record.size) if self._masks else None,
            image_id=record.image_id,
            size=record.size,
            original_size=record.size,
            area=None if record.area is None else torch.from_numpy(record.area.copy()),
        )


def finish(
    records: list[Record],
    report: FaultReport,
    *,
    check_images: bool,
    keep_empty: bool,
    decoding: Decoding,
    masks: bool = False,
) -> list[Record]:
    """Check images, masks and boxes, and report what was found.

    Raises:
        DataError: faults in strict mode, or no image left.
    """
    records = [
        record
        for record in records
        if (record.size != (0, 0) and not check_images) or check_image(record, report, decoding)
    ]
    for record in records:
        check_segments(record, report, masks)
        check_boxes(record, report)
    if not keep_empty:
        records = [record for record in records if len(record.boxes)]
    report.close(len(records), sum(len(record.boxes) for record in records))
    _tell_orientations(records, report.source)
    return records


def _tell_orientations(records: list[Record], source: str) -> None:
    turned, stored = (
        [str(record.path) for record in records if record.turned is expected]
        for expected in (True, False)
    )
    tell_orientations(source, turned, stored)
