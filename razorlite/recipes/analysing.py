"""The command `analyze` of predictions: what is wrong with them, as JSON, CSV, PNG and a page."""

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape as escape_markup
from rich.table import Table

from razorlite.core.files import csv_text, make_folder, write_text_atomic
from razorlite.core.streams import safe_console
from razorlite.data import Decoding
from razorlite.data.faults import first_line
from razorlite.evaluation import KINDS
from razorlite.recipes.found import NAME, Boxes, Found, read_found
from razorlite.recipes.quality import Quality, quality, worst
from razorlite.visual import draw_detections
from razorlite.visual.page import Figure, found, page, paragraph, pictures, table
from razorlite.visual.quality import (
    plot_bars,
    plot_confusion,
    plot_lines,
    plot_reliability,
    rounded,
)

_log = logging.getLogger("razorlite")
_COST = "AP50 lost (dAP)"  # 0 to 1, as all metrics are
_MEANINGS = {
    "class": "right box, wrong class",
    "localisation": "right class, IoU from 0.1 to 0.5",
    "both": "wrong class and box",
    "duplicate": "an object found again",
    "background": "nothing is there",
    "missed": "objects not found",
}


def analyze_predictions(
    source: str | Path,
    out: str | Path,
    truth: str | Path | None = None,
    max_detections: int | None = None,
) -> dict[str, Any]:
    """Say what is wrong with predictions: error types, curves, calibration, the worst images.

    Args:
        source: what `test(..., out=...)` wrote, the file or its folder; or, with `truth`, COCO's
            results or a COCO json with scores.
        out: folder for errors.json, classes.csv, pictures and index.html.
        truth: a COCO json with the annotations.
        max_detections: how many of the best detections of an image and class count; by default as
            many as in `test`, 100 where that is not known.

    Returns:
        The content of errors.json: for boxes `metrics`, `classes` (AP by size, best threshold, F1),
        `errors` (TIDE's kinds, how many and their dAP: the AP50, from 0 to 1, that their absence
        would gain), `confusion`, `calibration`, `worst`.

    Raises:
        DataError: a file cannot be read, or does not hold what it should.
        RunFolderError: a file cannot be written.
    """
    predictions = read_found(source, truth)
    if max_detections is not None and isinstance(predictions, Boxes):
        predictions = replace(predictions, max_detections=max_detections)
    seen = quality(predictions)
    folder = make_folder(out)
    text = json.dumps({"format": 1, **seen.numbers}, indent=1)
    write_text_atomic(folder / "errors.json", text + "\n")
    write_text_atomic(folder / "classes.csv", csv_text(seen.numbers["classes"]))
    plots = list(_plots(seen, folder))
    drawn = list(_worst(predictions, seen, folder))
    write_text_atomic(folder / "index.html", _page(seen, plots, drawn, str(source)))
    return {"format": 1, **seen.numbers}


def _plots(seen: Quality, folder: Path) -> Iterator[Figure]:
    if seen.curves:
        yield from _box_plots(seen, folder)
    if seen.rocs:
        lines = {f"{n} {r.area:.3f}": (r.false, r.true) for n, r in seen.rocs.items()}
        path = folder / "roc.png"
        yield (
            "ROC, one class against the others; the area under each curve beside its name",
            plot_lines(
                lines, path, title="ROC", x_label="false positives", y_label="found", diagonal=True
            ),
        )
    path = plot_confusion(seen.confusion, seen.labels, folder / "confusion.png", title="Confusion")
    yield "What objects were taken for; colours are shares of the row", path
    trust = seen.reliability
    yield (
        f"Scores beside how often they are right; expected calibration error {trust.error:.3f}",
        plot_reliability(
            trust.counts.tolist(),
            trust.scores.tolist(),
            trust.right.tolist(),
            folder / "calibration.png",
            title="Calibration",
        ),
    )


def _box_plots(seen: Quality, folder: Path) -> Iterator[Figure]:
    costs = {kind: seen.numbers["errors"][kind]["dAP"] for kind in KINDS}
    texts = [
        f"{cost:.3f} ({seen.numbers['errors'][kind]['count']:,})" for kind, cost in costs.items()
    ]
    yield (
        "What each kind of error costs: the AP50 that its absence would gain, and how many",
        plot_bars(costs, texts, folder / "errors.png", title="Error types", label=_COST),
    )
    common = sorted(seen.curves.items(), key=lambda item: -item[1].objects)
    filled = {name: one for name, one in common if one.objects and len(one.scores)}
    lines = {name: (one.recall, one.precision) for name, one in filled.items()}
    yield (
        "Precision against recall at an IoU of 0.5",
        plot_lines(
            lines,
            folder / "precision_recall.png",
            title="Precision and recall",
            x_label="recall",
            y_label="precision",
        ),
    )
    yield (
        "F1 against the score that is asked for; the best of each class is in the table",
        plot_lines(
            {name: (one.scores, one.f1) for name, one in filled.items()},
            folder / "f1.png",
            title="F1",
            x_label="lowest score",
            y_label="F1",
        ),
    )


def _worst(predictions: Found, seen: Quality, folder: Path) -> Iterator[Figure]:
    """Yield pictures of the images with the most errors, where their files are there."""
    if not isinstance(predictions, Boxes):
        return
    best = {one["name"]: one["threshold"] for one in seen.numbers["classes"]}
    least = [best[name] for name in predictions.classes]
    lost: list[str] = []
    for rank, i in enumerate(worst(seen.errors), start=1):
        target, detections = predictions.samples[i]
        name = predictions.names[i]
        keep = detections.scores >= detections.scores.new_tensor(least)[detections.labels]
        try:
            image = Decoding().read(name, target.original_size)
        except OSError as error:
            lost.append(f"{name}: {first_line(error)}")
            continue
        path = make_folder(folder / "worst") / f"{rank:02}.png"
        shown = detections[keep]
        draw_detections(
            image,
            shown,
            target,
            classes=predictions.classes,
            score_threshold=math.floor(100 * min(least)) / 100,  # the legend states it
            path=path,
        )
        yield f"{rank}. {Path(name).name}: {seen.errors[i]} errors", path
    if lost:
        _log.warning("%d of the worst images cannot be drawn; the first is %s", len(lost), lost[0])


def _page(seen: Quality, plots: list[Figure], drawn: list[Figure], source: str) -> str:
    numbers = seen.numbers
    metrics = ", ".join(f"{n} {rounded(float(v))}" for n, v in numbers["metrics"].items())
    heads = list(numbers["classes"][0])
    rows = [[rounded(one[head]) for head in heads] for one in numbers["classes"]]
    counts = ", ".join(
        f"{numbers[n]:,} {n}" for n in ("images", "objects", "detections") if n in numbers
    )
    parts = [
        f"<header><h1>What is right and wrong</h1>{paragraph(f'{source}: {counts}.')}</header>",
        f"<section><h2>Metrics</h2>{paragraph(metrics)}</section>",
        found(list(_findings(numbers))),
        table("Classes", heads, rows),
        pictures(plots, "Plots"),
        pictures(drawn, "Images with the most errors"),
        _others(numbers, drawn),
    ]
    return page("What is right and wrong", "\n".join(part for part in parts if part))


def _findings(numbers: dict[str, Any]) -> Iterator[str]:
    if "errors" in numbers:
        costs = sorted(numbers["errors"].items(), key=lambda item: -item[1]["dAP"])
        for kind, one in costs[:3]:
            yield (
                f"{kind} ({_MEANINGS[kind]}): {one['count']:,} errors, which cost "
                f"{one['dAP']:.3f} of AP50"
            )
    pair = _most_confused(numbers["confusion"])
    if pair:
        yield pair
    yield f"Scores are off by {numbers['calibration']['ECE']:.3f} on average (ECE)."


def _most_confused(confusion: dict[str, Any]) -> str:
    names, counts = confusion["labels"], confusion["counts"]
    pairs = [
        (count, names[i], names[j])
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if i != j and "background" not in (names[i], names[j])
    ]
    count, true, taken = max(pairs, default=(0, "", ""))
    return f"{true} is taken for {taken} {count:,} times, the most of all pairs." if count else ""


def _others(numbers: dict[str, Any], drawn: list[Figure]) -> str:
    """Return a list of the worst images where they are not drawn."""
    if drawn or not numbers["worst"]:
        return ""
    lines = "".join(f"<li>{escape(str(one['image']))}</li>" for one in numbers["worst"])
    return f"<section><h2>Images with the most errors</h2><ul>{lines}</ul></section>"


def is_predictions(source: str | Path) -> bool:
    """Return whether a source is of predictions, not a run with its log."""
    path = Path(source)
    if path.is_dir():
        return (path / NAME).is_file() and not (path / "metrics.jsonl").is_file()
    return path.suffix.lower() == ".json"


def show_quality(numbers: dict[str, Any]) -> None:
    """Print a table of the classes, and of error types where there are some."""
    names = ("name", "objects", "images", "AP", "AP50", "threshold", "f1", "recall", "AUC")
    rows = numbers["classes"]
    _print([{name: row[name] for name in names if name in row} for row in rows])
    if "errors" in numbers:
        rows = [(kind, one["count"], one["dAP"]) for kind, one in numbers["errors"].items()]
        _print([dict(zip(("error", "count", _COST), row, strict=True)) for row in rows])
    print(f"calibration error (ECE) {numbers['calibration']['ECE']:.4f}")


def _print(rows: list[dict[str, Any]]) -> None:
    shown = Table(box=SIMPLE_HEAD)
    for number, head in enumerate(rows[0]):
        shown.add_column(head, justify="right" if number else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(escape_markup(rounded(value)) for value in row.values()))
    safe_console().print(shown)
