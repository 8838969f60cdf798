"""The commands `data check`, `data convert`, `data stats` and `data split`."""

import logging
from collections.abc import Mapping
from pathlib import Path

from razorlite.core.errors import DataError
from razorlite.data.dataset import Dataset
from razorlite.data.dividing import divide
from razorlite.data.examining import Counts, Finding, count_objects, examine, open_all
from razorlite.data.joining import ConcatDataset
from razorlite.data.recognising import recognise
from razorlite.data.writing import Format, Images, Written, write

_log = logging.getLogger("razorlite")


def check_data(source: str | Path) -> list[Finding]:
    """Look for what would make training on a data set fail, or its results wrong.

    Args:
        source: a folder in a known format, a COCO json file or a data.yaml.

    Returns:
        What was found, errors first.

    Raises:
        DataError: there is no such folder, or it is in no known format.
    """
    return examine(recognise(source))[1]


def data_stats(source: str | Path) -> dict[str, Counts]:
    """Count images, objects, classes and sizes of each split.

    Args:
        source: as for `check_data`.

    Raises:
        DataError: as `check_data`, or a split cannot be used.
    """
    return {split: count_objects(dataset) for split, dataset in _open(source).items()}


def convert_data(
    source: str | Path,
    out: str | Path,
    *,
    to: Format,
    images: Images = "copy",
    masks: bool = False,
) -> Written:
    """Write a data set in another format.

    Args:
        source: as for `check_data`.
        out: a folder that does not exist or is empty.
        to: "coco", "voc" or "yolo".
        images: "copy" the image files, or "link" to them.
        masks: take masks with the boxes; objects without one are left out.

    Raises:
        DataError: as `data_stats`, or the format cannot hold it.
        RunFolderError: the folder cannot be written.
    """
    written = write(_open(source, masks), out, format=to, images=images)
    for what, count in written.lost.items():
        if count:
            _log.warning("%s cannot hold %s; %d objects lost theirs", to, what, count)
    return written


def split_data(
    source: str | Path,
    out: str | Path,
    fractions: Mapping[str, float],
    *,
    group: str = "",
    seed: int = 0,
    to: Format | None = None,
    images: Images = "copy",
    masks: bool = False,
) -> Written:
    """Divide a data set into splits of balanced classes, and write them.

    Args:
        source: as for `check_data`; splits that it has are joined, and divided anew.
        out: a folder that does not exist or is empty.
        fractions: name of each split to its share; they add up to 1.
        group: a regular expression for what images that stay together share in their names.
        seed: another one divides differently.
        to: format; the source's by default.
        images: "copy" the image files, or "link" to them.
        masks: take masks with the boxes; objects without one are left out.

    Raises:
        DataError: as `convert_data`, or the data cannot be divided so.
        RunFolderError: the folder cannot be written.
    """
    layout = recognise(source)
    if layout.format == "folders":
        raise DataError(f"{source} holds class folders; wanted a data set of boxes")
    joined = ConcatDataset(datasets=list(_open(source, masks).values()))
    dataset = joined.subset(list({key: i for i, key in enumerate(joined.keys)}.values()))
    parts = divide(dataset, fractions, group=group, seed=seed)
    splits = {split: dataset.subset(items) for split, items in parts.items()}
    return write(splits, out, format=to or layout.format, images=images)


def _open(source: str | Path, masks: bool = False) -> dict[str, Dataset]:
    layout = recognise(source)
    if masks:
        return {split: layout.open(split, masks=True) for split in layout.splits}
    datasets, findings = open_all(layout)
    if findings:
        raise DataError(findings[0].what)
    return datasets
