"""What a person should know of a data set before training on it: findings by severity, counts."""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from razorlite.core.errors import DataError
from razorlite.core.progress import progress
from razorlite.data._values import identity
from razorlite.data._yolo_files import read_data_file
from razorlite.data.dataset import Dataset
from razorlite.data.joining import records_of
from razorlite.data.json_files import read_json
from razorlite.data.recognising import Layout
from razorlite.data.records import CROWDS, Record

Severity = Literal["error", "warning", "note"]
_EXAMPLES = 3
_MANY = 100  # objects of an image; more than detectors return by default
_SMALL_SIDE = 2.0  # pixels of an object's shorter side
_LONG = 10.0  # times the shorter side of an image
_COCO_AREAS = {"small": 32**2, "medium": 96**2, "large": np.inf}


@dataclass(frozen=True)
class Finding:
    """One thing to know of a data set.

    Attributes:
        severity: "error" makes results wrong or training impossible, a "warning" loses something,
            a "note" is good to know.
        splits: where.
        what: in one line.
        count: of how many images, objects or entries.
        examples: a few of them.
    """

    severity: Severity
    splits: tuple[str, ...]
    what: str
    count: int = 1
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        examples = f" ({', '.join(self.examples)})" if self.examples else ""
        return f"{self.severity:7}  {', '.join(self.splits)}: {self.what}{examples}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {**vars(self), "splits": list(self.splits), "examples": list(self.examples)}


@dataclass(frozen=True)
class Counts:
    """What a split holds.

    Attributes:
        images: how many.
        empty: images without objects.
        objects: how many of each class, crowds left out; of class folders, images.
        areas: objects by COCO's areas: small below 32², medium below 96² pixels, large.
        most: objects of the fullest image.
        sizes: (height, width) to number of images, the most frequent first.
    """

    images: int
    empty: int
    objects: dict[str, int]
    areas: dict[str, int] = field(default_factory=dict)
    most: int = 0
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return them as plain values."""
        sizes = [[*size, count] for size, count in self.sizes.items()]
        return {**vars(self), "sizes": sizes}


def open_all(layout: Layout) -> tuple[dict[str, Dataset], list[Finding]]:
    """Open every split; one that cannot be used becomes a finding."""
    datasets, findings = {}, []
    for split in layout.splits:
        try:
            with _quiet():
                datasets[split] = layout.open(split)
        except DataError as error:
            findings.append(Finding("error", (split,), str(error).splitlines()[0]))
    return datasets, findings


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep readers from logging faults that are told as findings."""
    logger = logging.getLogger("razorlite.data")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def examine(layout: Layout) -> tuple[dict[str, Dataset], list[Finding]]:
    """Open every split and return what there is to know, errors first.

    Args:
        layout: as `recognise` returns it.

    Returns:
        The splits that can be used, and findings.
    """
    datasets, findings = open_all(layout)
    for look in _LOOKS:
        findings += look(datasets)
    findings += _id_gaps(layout)
    order = ("error", "warning", "note")
    return datasets, sorted(findings, key=lambda finding: order.index(finding.severity))


def count_objects(dataset: Dataset) -> Counts:
    """Count what a split holds; images are not decoded."""
    labels = labels_of_objects(dataset)
    numbers = Counter(label for own in labels for label in own)
    per_image = [len(own) for own in labels]
    found = Counts(
        images=len(dataset),
        empty=per_image.count(0),
        objects={name: numbers[label] for label, name in enumerate(dataset.classes)},
        most=max(per_image, default=0),
    )
    records = records_of(dataset)
    return found if records is None else _measured(found, records)


def labels_of_objects(dataset: Dataset) -> list[list[int]]:
    """Return the labels of each item's objects, crowds left out; of an image with a label, that."""
    records = records_of(dataset)
    if records is None:
        return [sorted(dataset.labels_of(index)) for index in range(len(dataset))]
    return [record.labels[~record.crowd].tolist() for record in records]


def _measured(found: Counts, records: list[Record]) -> Counts:
    areas: Counter[str] = Counter(dict.fromkeys(_COCO_AREAS, 0))
    for record in records:
        sides = record.boxes[~record.crowd, 2:] - record.boxes[~record.crowd, :2]
        places = np.searchsorted(list(_COCO_AREAS.values()), sides.prod(axis=1), side="right")
        areas.update(list(_COCO_AREAS)[place] for place in places)
    sizes = Counter(record.size for record in records)
    return Counts(**{**vars(found), "areas": dict(areas), "sizes": dict(sizes.most_common())})


def content_digests(dataset: Dataset) -> Iterator[bytes]:
    """Yield a digest of each image file, of its key where it is none."""
    for key in progress(dataset.keys, "images compared by content", len(dataset)):
        path = Path(key)
        data = path.read_bytes() if path.is_file() else key.encode(errors="surrogateescape")
        yield hashlib.sha256(data).digest()


Look = Callable[[Mapping[str, Dataset]], Iterable[Finding]]


def _dropped(datasets: Mapping[str, Dataset]) -> Iterator[Finding]:
    for split, dataset in datasets.items():
        by_kind: dict[str, list[str]] = defaultdict(list)
        for fault in dataset.faults:
            by_kind[fault.kind].append(str(fault))
        for kind, faults in by_kind.items():
            yield _finding("warning", (split,), f"{len(faults)} x {kind}", faults)


def _set_aside(datasets: Mapping[str, Dataset]) -> Iterator[Finding]:
    """Find what does not count and is no fault, such as images without a label file."""
    for split, dataset in datasets.items():
        told = Counter(fault.kind for fault in dataset.faults)
        for reason, count in (dataset.left_out() - told).items():
            if reason != CROWDS:
                yield _finding("note", (split,), f"{count} x {reason}", [], count)


def _shared(datasets: Mapping[str, Dataset]) -> Iterator[Finding]:
    """Find images that two splits, or one split twice, have: by path, and by content."""
    contents = {split: _by_content(dataset) for split, dataset in datasets.items()}
    for (one, first), (other, second) in combinations(contents.items(), 2):
        both = [f"{first[key][0]} and {second[key][0]}" for key in first if key in second]
        if both:
            what = f"{len(both)} images are in both, so that what is measured was trained on"
            yield _finding("error", (one, other), what, both)
    for split, found in contents.items():
        twice = [" and ".join(names[:2]) for names in found.values() if len(names) > 1]
        if twice:
            yield _finding("warning", (split,), f"{len(twice)} images are there twice", twice)


def _by_content(dataset: Dataset) -> dict[bytes, list[str]]:
    """Return the names of the images of each content."""
    found: dict[bytes, list[str]] = defaultdict(list)
    for digest, name in zip(content_digests(dataset), dataset.names, strict=True):
        found[digest].append(name)
    return found


def _classes(datasets: Mapping[str, Dataset]) -> Iterator[Finding]:
    counts = {split: count_objects(dataset).objects for split, dataset in datasets.items()}
    for split, own in counts.items():
        without = [name for name, count in own.items() if not count]
        if len(without) == len(own):
            yield _finding("error", (split,), "there is no object at all", [])
        elif without:
            yield _finding("warning", (split,), f"{len(without)} classes have no object", without)
    train = counts.get("train")
    for split, own in counts.items() if train is not None else ():
        assert train is not None
        unseen = [name for name, count in own.items() if count and not train.get(name)]
        if unseen:
            what = f"{len(unseen)} classes have objects here and none in train"
            yield _finding("error", (split, "train"), what, unseen)


def _odd_images(datasets: Mapping[str, Dataset]) -> Iterator[Finding]:
    for split, records in _with_records(datasets):
        long = [_called(r) for r in records if max(r.size) > _LONG * min(r.size)]
        if long:
            what = f"{len(long)} images are over {_LONG:g} times as long as wide"
            yield _finding("warning", (split,), what, long)
        turned = [_called(r) for r in records if r.turned is not None]
        if turned:
            what = f"{len(turned)} images have an EXIF orientation"
            yield _finding("note", (split,), what, turned)
        empty = sum(not len(record.boxes) for record in records)
        if empty > len(records) / 2:
            yield _finding("note", (split,), f"{empty} of {len(records)} images have no object", [])


def _odd_objects(datasets: Mapping[str, Dataset]) -> Iterator[Finding]:
    for split, records in _with_records(datasets):
        full = [_called(record) for record in records if len(record.boxes) > _MANY]
        if full:
            what = f"{len(full)} images have over {_MANY} objects; raise max_per_img"
            yield _finding("warning", (split,), what, full)
        tiny = {_called(r): int((_shorter_sides(r) < _SMALL_SIDE).sum()) for r in records}
        total = sum(tiny.values())
        if total:
            what = f"{total} objects are thinner than {_SMALL_SIDE:g} pixels"
            yield _finding("warning", (split,), what, [n for n, k in tiny.items() if k], total)


def _shorter_sides(record: Record) -> np.ndarray:
    sides: np.ndarray = (record.boxes[:, 2:] - record.boxes[:, :2]).min(axis=1, initial=np.inf)
    return sides


def _called(record: Record) -> str:
    return record.path.name


def _with_records(datasets: Mapping[str, Dataset]) -> Iterator[tuple[str, list[Record]]]:
    for split, dataset in datasets.items():
        records = records_of(dataset)
        if records is not None:
            yield split, records


def _id_gaps(layout: Layout) -> Iterator[Finding]:
    """Note ids that are not consecutive: whoever takes ids for labels is wrong by them."""
    for split, block in layout.splits.items():
        ids = sorted(_ids(block))
        if ids and ids != list(range(ids[0], ids[0] + len(ids))):
            what = "class ids have gaps; labels are 0, 1, … in the order of the ids"
            yield _finding("note", (split,), what, [str(one) for one in ids])


def _ids(block: Mapping[str, Any]) -> set[int]:
    if block["type"] == "YoloDataset":
        return set(read_data_file(Path(block["root"])).names)
    if block["type"] != "CocoDataset":
        return set()
    entries = read_json(Path(block["annotation"]))["categories"]
    ids = {identity(entry.get("id")) for entry in entries if isinstance(entry, dict)}
    return {one for one in ids if isinstance(one, int)}


def _finding(
    severity: Severity,
    splits: tuple[str, ...],
    what: str,
    examples: list[str],
    count: int | None = None,
) -> Finding:
    total = len(examples) if count is None else count
    more = total - _EXAMPLES
    shown = [*examples[:_EXAMPLES], *([f"and {more} more"] if more > 0 and count is None else [])]
    return Finding(severity, splits, what, max(total, 1), tuple(shown))


_LOOKS: tuple[Look, ...] = (_dropped, _set_aside, _shared, _classes, _odd_images, _odd_objects)
