"""The commands `data check`, `data convert`, `data stats` and `data split`."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from razorlite.core.errors import DataError
from razorlite.core.files import resolve
from razorlite.core.streams import safe_console
from razorlite.data.coco import CocoDataset
from razorlite.data.dataset import Dataset
from razorlite.data.dividing import divide
from razorlite.data.examining import Counts, Finding, count_objects, examine
from razorlite.data.importing import TOOLS, Imported, import_annotations, tools_in
from razorlite.data.joining import ConcatDataset
from razorlite.data.json_files import each_json_once
from razorlite.data.known_splits import ALL
from razorlite.data.recognising import formats_in, recognise
from razorlite.data.writing import Format, Written, write

_log = logging.getLogger("razorlite")


@each_json_once()
def check_data(source: str | Path) -> list[Finding]:
    """Look for what would make training on a data set fail, or its results wrong.

    Args:
        source: a folder in a known format, a COCO json file or a data.yaml.

    Returns:
        What was found, errors first.

    Raises:
        DataError: there is no such folder, or it is in no known format.
    """
    layout = recognise(source)
    further = [Finding("note", tuple(layout.splits), layout.left_out)] if layout.others else []
    return [*examine(layout)[1], *further]


@each_json_once()
def data_stats(source: str | Path) -> dict[str, Counts]:
    """Count images, objects, classes and sizes of each split.

    Args:
        source: as for `check_data`.

    Raises:
        DataError: as `check_data`, or a split cannot be used.
    """
    return {split: count_objects(dataset) for split, dataset in _open(source).items()}


def show_stats(counts: Mapping[str, Counts]) -> None:
    """Print counts as a table, a column for each split."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("")
    for split in counts:
        table.add_column(split, justify="right")
    rows = {"images": lambda c: c.images, "without objects": lambda c: c.empty}
    for name, pick in rows.items():
        table.add_row(name, *(f"{pick(own):,}" for own in counts.values()))
    for kind in ("objects", "areas"):
        names = dict.fromkeys(name for own in counts.values() for name in getattr(own, kind))
        table.add_section()
        for name in names:
            numbers = (getattr(own, kind).get(name, 0) for own in counts.values())
            table.add_row(escape(name), *(f"{number:,}" for number in numbers))
    table.add_section()
    table.add_row("most objects", *(f"{own.most:,}" for own in counts.values()))
    table.add_row("commonest size", *(_commonest(own) for own in counts.values()))
    safe_console().print(table)


def _commonest(own: Counts) -> str:
    """Return "480 x 640" (height, width) of most images."""
    return " x ".join(map(str, next(iter(own.sizes), ()))) or "-"


@each_json_once()
def convert_data(
    source: str | Path,
    out: str | Path,
    *,
    to: Format,
    source_format: str | None = None,
    link: bool = False,
    masks: bool = False,
) -> Written:
    """Write a data set in another format.

    Args:
        source: as for `check_data`; or what labelme, CVAT ("CVAT for images" or YOLO 1.1) or makers
            of mask PNGs leave, see `razorlite.data.importing.import_annotations`.
        out: a folder that does not exist or is empty.
        to: "coco", "voc" or "yolo".
        source_format: in which the source is read: "coco", "voc", "yolo", or a tool's, "labelme",
            "cvat", "darknet" or "masks"; by default the one that is there, of several a tool's
            before the others and mask PNGs at last.
        link: make symbolic links to the image files instead of copies.
        masks: take masks with the boxes; objects without one are left out.

    Raises:
        DataError: as `data_stats`, the format cannot hold it, or the folder lies in the source.
        RunFolderError: the folder cannot be written.
    """
    _check_outside(source, out)
    imported = _imported(source, source_format)
    if imported is None:
        return _written(_open(source, masks, source_format), out, to, link)
    root = resolve(source)
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"{root.stem}.json"
        file.write_text(json.dumps(imported.tree), encoding="utf-8")
        images = str(root if root.is_dir() else root.parent)
        dataset = CocoDataset(annotation=str(file), images=images, masks=masks)
        for what, count in imported.lost.items():
            _log.warning("%s: %d %s, which are left out", imported.tool, count, what)
        return _written({ALL: dataset}, out, to, link)


@each_json_once()
def split_data(
    source: str | Path,
    out: str | Path,
    fractions: Mapping[str, float],
    *,
    of: Sequence[str] = (),
    group: str = "",
    seed: int = 0,
    to: Format | None = None,
    link: bool = False,
    masks: bool = False,
) -> Written:
    """Divide a data set into splits of balanced classes, and write them.

    Args:
        source: as for `check_data`.
        out: a folder that does not exist or is empty.
        fractions: name of each split to its share; they add up to 1.
        of: splits of the source that are joined and divided; the others are left out. They are
            to be named where it has several, such as test images that nobody is to train on.
        group: a regular expression for what images that stay together share in their names.
        seed: another one divides differently.
        to: format; the source's by default.
        link: make symbolic links to the image files instead of copies.
        masks: take masks with the boxes; objects without one are left out.

    Raises:
        DataError: as `convert_data`, the source has several splits or none of those in `of`, or
            the data cannot be divided so.
        RunFolderError: the folder cannot be written.
    """
    layout = recognise(source)
    _check_outside(source, out)
    if layout.format == "folders":
        raise DataError(f"{source} holds class folders; expected a data set of boxes")
    chosen = _chosen(list(layout.splits), of, source)
    opened = _open(source, masks)
    joined = ConcatDataset(datasets=[opened[split] for split in chosen])
    dataset = joined.subset(list({key: i for i, key in enumerate(joined.keys)}.values()))
    if len(dataset) < len(joined):
        _log.warning(
            "%d images are in several splits; each is taken once, as the last of them has it",
            len(joined) - len(dataset),
        )
    parts = divide(dataset, fractions, group=group, seed=seed)
    splits = {split: dataset.subset(items) for split, items in parts.items()}
    return _written(splits, out, to or layout.format, link)


def _chosen(splits: Sequence[str], of: Sequence[str], source: str | Path) -> list[str]:
    """Return the splits to divide: those that are asked for, or the only one."""
    if unknown := [split for split in of if split not in splits]:
        raise DataError(f"{source} has no split {unknown[0]!r}; it has {', '.join(splits)}")
    if not of and len(splits) > 1:
        raise DataError(
            f"{source} comes in the splits {', '.join(splits)}, which dividing would mix; name "
            f"those to divide: --of {' '.join(splits)} for all of them, --of {splits[0]} for one"
        )
    if left := [split for split in splits if of and split not in of]:
        _log.info("dividing %s of %s, without %s", ", ".join(of), source, ", ".join(left))
    return list(dict.fromkeys(of)) or list(splits)


def _check_outside(source: str | Path, out: str | Path) -> None:
    """Refuse a folder in the source, which would become a part of it."""
    root = resolve(source)
    if root.is_dir() and Path(out).resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"{out} lies in {source}, whose images and annotations it would double; name a folder "
            f"beside it"
        )


def _written(splits: Mapping[str, Dataset], out: str | Path, to: Format, link: bool) -> Written:
    """Write splits and say what the format cannot hold."""
    written = write(splits, out, format=to, link=link)
    for what, count in written.lost.items():
        if count:
            _log.warning("%s files cannot hold %d %s", to.upper(), count, what)
    return written


def _imported(source: str | Path, kind: str | None) -> Imported | None:
    """Return a tool's annotations that are to be converted; None where those of a data set are.

    What is there beside them, too, is logged.

    Raises:
        DataError: there is nothing of the tool that is asked for.
    """
    if kind is not None:
        found = import_annotations(source, [kind]) if kind in TOOLS else None
        if found is None and kind in TOOLS:
            raise DataError(f"{source} holds no annotations of the kind {kind}")
        return found
    tools, masks = tools_in(source), TOOLS[-1]
    kinds = [*(tool for tool in tools if tool != masks), *formats_in(source)]
    kinds += [masks] if masks in tools else []
    is_tools = bool(kinds) and kinds[0] in TOOLS
    others = kinds[1:] if is_tools else [k for k in kinds[1:] if k == masks]  # `_open` tells more
    if others:
        _log.warning(
            "%s: what is there of %s is taken, and %s, too, is not looked at: choose by --from",
            source, kinds[0], " and ".join(others),
        )  # fmt: skip
    return import_annotations(source, kinds[:1]) if is_tools else None


def _open(source: str | Path, masks: bool = False, format: str | None = None) -> dict[str, Dataset]:
    """Open every split; what is dropped is logged."""
    layout = recognise(source, format)
    if layout.others:
        _log.warning("%s: %s", source, layout.left_out)
    if masks and layout.format not in ("coco", "yolo"):
        raise DataError(f"{source} is in the format {layout.format}, without masks; leave them out")
    more = {"masks": True} if masks else {}
    return {split: layout.open(split, **more) for split in layout.splits}
