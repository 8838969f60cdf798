"""The commands `browse` and `analyze`: training images as they are seen, and runs side by side."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from razorlite.core.config import Overrides
from razorlite.core.errors import ConfigError, DataError, RunFolderError
from razorlite.core.files import csv_text, explain_damage, make_folder, write_text_atomic
from razorlite.core.journal import Journal
from razorlite.core.streams import safe_console
from razorlite.data import Dataset
from razorlite.data.faults import first_line
from razorlite.data.joining import records_of
from razorlite.data.preprocess import PIXELS
from razorlite.recipes.experiment import ConfigLike, Experiment, read
from razorlite.recipes.splits import Splits
from razorlite.structures import Target
from razorlite.visual import draw_annotations, draw_grid, metrics_in, plot_runs, write_gallery

_log = logging.getLogger("razorlite")
_SHOWN = ("AP", "AP50", "mask_AP", "mAP", "top1")


def browse(
    config: ConfigLike,
    out: str | Path,
    *,
    images: int = 16,
    overrides: Overrides = (),
) -> Path:
    """Draw training images with their annotations, as they are and as training sees them.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        out: folder for a picture of each image and an index.html.
        images: how many, spread evenly over the training images.
        overrides: "a.b=value" each, or a mapping of paths to plain values.

    Returns:
        The page.

    Raises:
        ConfigError: the configuration is wrong.
        DataError: the images cannot be read, are not annotated with boxes, or lie in `out`.
        RunFolderError: a file cannot be written.
    """
    if images < 1:
        raise ConfigError(f"images wants a number of at least 1, got {images}")
    _, experiment = read(config, overrides)
    splits = _in_pixels(experiment)
    _check_apart(splits.train, Path(out))
    some = _spread(splits.train, images)
    items = dict(_readable(some))
    if not all(isinstance(x, Tensor) and isinstance(one, Target) for x, one in items.values()):
        raise DataError("data.train wants single images with boxes to draw")
    seen = _augmented(splits, some)
    folder = make_folder(out)
    files = []
    for index, item in items.items():
        name, (image, target) = some.names[index], cast(tuple[Tensor, Target], item)
        before = draw_annotations(image, target, classes=some.classes)
        pictures, captions = [before], [f"{name}, {len(target)} objects"]
        if target.image_id in seen:
            pixels, own = seen[target.image_id]
            pictures.append(draw_annotations(pixels, own, classes=some.classes))
            captions.append(f"in training, {len(own)} objects")
        file = folder / f"{index:03}.png"
        draw_grid(pictures, captions=captions, columns=2, path=file)
        files.append((name, file))
    about = f"{len(files)} of {len(splits.train)} training images: as annotated, and as augmented."
    return write_gallery(folder / "index.html", files, title="Training images", about=about)


def _in_pixels(experiment: Experiment) -> Splits:
    """Return the splits with images from 0 to 255, red first, not padded further."""
    if experiment.data is None:
        raise ConfigError("the configuration has no `data` block; there is nothing to look at")
    data = experiment.data.prepared_by(PIXELS)
    return Splits(replace(experiment, data=data), torch.device("cpu"))


def _check_apart(dataset: Dataset, out: Path) -> None:
    """Refuse the folder of training images: a picture could take the place of one."""
    folders = {record.path.parent for record in records_of(dataset) or ()}
    if out.resolve() in {folder.resolve() for folder in folders}:
        raise DataError(
            f"{out} holds training images, and pictures may take their place; name another folder "
            f"by --out"
        )


def _spread(dataset: Dataset, images: int) -> Dataset:
    count = min(images, len(dataset))
    return dataset.subset([i * len(dataset) // count for i in range(count)])


def _readable(some: Dataset) -> Iterator[tuple[int, tuple[Any, Any]]]:
    """Yield the place and the item of each image that can be read; others are named.

    Raises:
        DataError: none of them can be read.
    """
    faults = []
    for index, key in enumerate(some.keys):
        try:
            yield index, some[index]
        except OSError as error:
            faults.append(f"{key} cannot be read: {first_line(error)}")
            _log.warning("%s", faults[-1])
    if len(faults) == len(some):
        raise DataError(f"none of the {len(some)} images can be read; first {faults[0]}")


def _augmented(splits: Splits, some: Dataset) -> dict[Any, tuple[Tensor, Target]]:
    """Return pixels and target of images as training sees them, by image id."""
    loader = splits.train_loader(some)
    found = {}
    for batch in islice(loader, len(loader)):
        for image, target in zip(batch.images, batch.targets, strict=True):
            height, width = target.size
            pixels = image[:, :height, :width].round().clamp(0, 255).to(torch.uint8)
            found[target.image_id] = (pixels, target)
    return found


def analyze(runs: Sequence[str | Path], out: str | Path) -> dict[str, dict[str, float]]:
    """Compare run folders: curves in one plot, every logged value in one table.

    Args:
        runs: folders with a metrics.jsonl.
        out: folder for runs.png and runs.csv.

    Returns:
        Name of each run to `steps`, `seconds_per_step` and the best of each metric.

    Raises:
        RunFolderError: a folder holds no metrics, or a file cannot be written.
    """
    records = {str(run): _records(Path(run)) for run in runs}
    folder = make_folder(out)
    plot_runs(records, folder / "runs.png")
    write_text_atomic(folder / "runs.csv", _table(records))
    return {name: _summary(name, lines) for name, lines in records.items()}


def _summary(run: str, lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    with explain_damage(_metrics_file(Path(run))):
        return summary(lines)


def _metrics_file(run: Path) -> Path:
    return run / "metrics.jsonl" if run.is_dir() else run


def _records(run: Path) -> list[dict[str, Any]]:
    path = _metrics_file(run)
    if not path.is_file():
        raise RunFolderError(f"no metrics.jsonl in {run}; is it the folder of a training?")
    lines = Journal(path).read()
    if not lines:
        raise RunFolderError(f"{path} is empty; nothing was logged yet")
    return lines


def summary(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return `steps`, `seconds_per_step` (the median), and the highest of each metric."""
    train = [record for record in records if record.get("kind") == "train"]
    found: dict[str, float] = {"steps": max((r["step"] for r in records if "step" in r), default=0)}
    spent = [
        (after["seconds"] - before["seconds"]) / (after["step"] - before["step"])
        for before, after in pairwise(train)
        if after["step"] > before["step"] and after["seconds"] > before["seconds"]  # not resumed
    ]
    if spent:
        found["seconds_per_step"] = median(spent)
    for record in records:
        for name, value in metrics_in(record).items():
            found[name] = max(value, found.get(name, value))
    return found


def show_runs(found: Mapping[str, Mapping[str, float]]) -> None:
    """Print a table of what `analyze` returned, a row for each run."""
    names = [
        n for n in ("steps", "seconds_per_step", *_SHOWN) if any(n in own for own in found.values())
    ]
    table = Table(box=SIMPLE_HEAD)
    table.add_column("run", overflow="fold")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for run, own in found.items():
        cells = [own.get(name) for name in names]
        texts = ["" if v is None else f"{v:,}" if isinstance(v, int) else f"{v:.4f}" for v in cells]
        table.add_row(escape(run), *texts)
    safe_console().print(table)


def _table(records: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    rows = [{"run": run, **record} for run, lines in records.items() for record in lines]
    return csv_text(rows)
