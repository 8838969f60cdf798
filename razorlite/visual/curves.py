"""Curves of a training, as PNG files."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from razorlite.visual import _style
from razorlite.visual._style import INK, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = list[tuple[float, float]]

_LOSS = re.compile(r"loss|distill_", re.IGNORECASE)
_METRIC = re.compile(r"(^|[/._])(m?AP|AR|top\d|accuracy)")
_RATE = re.compile(r"(^|/)lr($|[/._])")
_MOST_METRICS = 6


def plot_training(
    records: Iterable[Mapping[str, Any]], path: str | Path, *, title: str = "Training"
) -> Path:
    """Plot losses, learning rate and metrics against the training step.

    Args:
        records: lines of a metrics.jsonl; `step` is the x axis, names with "loss" or "distill_"
            are losses, `lr` the learning rate, names like AP, AR or top1 metrics, of which the
            first six are drawn; the rest and values that are not finite are left out.
        path: the PNG file.
        title: headline.
    """
    curves = _curves(records)
    losses = {n: c for n, c in curves.items() if _LOSS.search(n)}
    metrics = {n: c for n, c in curves.items() if n not in losses and _METRIC.search(n)}
    # COCO writes -1 where there is no object of a size.
    metrics = {n: c for n, c in metrics.items() if any(value >= 0 for _, value in c)}
    metrics = dict(list(metrics.items())[:_MOST_METRICS])
    rates = {n: c for n, c in curves.items() if _RATE.search(n)}
    figure = _style.new_figure(12, 4.2)
    figure.suptitle(title, fontsize=13, color=INK)
    panels = figure.subplots(1, 3, width_ratios=[1.25, 0.75, 1.25])
    _plot_losses(panels[0], losses)
    _plot_curves(panels[1], rates, "Learning rate", "", "no learning rate recorded")
    _plot_curves(panels[2], metrics, "Evaluation", "score", "not evaluated yet")
    return _style.save(figure, path)


def _curves(records: Iterable[Mapping[str, Any]]) -> dict[str, Curve]:
    """Return the curve of each value; nested values are named `outer/inner`."""
    curves: dict[str, Curve] = {}
    for index, record in enumerate(records):
        step = record.get("step", index)
        for name, value in _flat(record).items():
            if name not in ("step", "epoch") and _style.finite(value):
                curves.setdefault(name, []).append((step, value))
    return curves


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}/"))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _plot_losses(axes: "Axes", losses: Mapping[str, Curve]) -> None:
    _style.style(axes, "Losses", "step", "loss")
    if not losses:
        _style.say_empty(axes, "no losses recorded")
        return
    for index, (name, curve) in enumerate(losses.items()):
        color = INK if name == "loss" else PALETTE[index % len(PALETTE)]
        _plot_line(axes, curve, name, color, smooth=True)
    values = [value for curve in losses.values() for _, value in curve]
    if min(values) > 0 and max(values) / min(values) > 100:
        axes.set_yscale("log")
    _style.whole_numbers(axes)
    _style.legend(axes, 3)


def _plot_curves(
    axes: "Axes", curves: Mapping[str, Curve], title: str, y_label: str, empty: str
) -> None:
    _style.style(axes, title, "step", y_label)
    if not curves:
        _style.say_empty(axes, empty)
    for index, (name, curve) in enumerate(curves.items()):
        _plot_line(axes, curve, name.rpartition("/")[2], PALETTE[index % len(PALETTE)])
    if curves:
        _style.whole_numbers(axes)
    _style.legend(axes, 3)


def _plot_line(axes: "Axes", curve: Curve, name: str, color: str, smooth: bool = False) -> None:
    """Draw a line with dots where they are few; a noisy one faint with its moving mean on top."""
    steps, values = zip(*curve, strict=True)
    if smooth and len(curve) > 40:
        axes.plot(steps, values, color=color, alpha=0.18, linewidth=0.8)
        values = tuple(_moving_mean(values, len(values) // 20))
    marker = "o" if len(curve) <= 30 else None
    axes.plot(steps, values, color=color, linewidth=1.5, marker=marker, markersize=3, label=name)


def _moving_mean(values: Sequence[float], width: int) -> list[float]:
    """Return means over up to `width` values on either side."""
    sums = [0.0, *itertools.accumulate(values)]
    windows = [(max(0, i - width), min(len(values), i + width + 1)) for i in range(len(values))]
    return [(sums[end] - sums[start]) / (end - start) for start, end in windows]
