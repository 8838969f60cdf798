"""How good predictions are, as PNG files that can be read on a telephone."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from razorlite.visual import _style
from razorlite.visual._style import FAINT, INK, MUTED, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Line = tuple[Sequence[float] | NDArray[np.float64], Sequence[float] | NDArray[np.float64]]
_WIDTH = 4.6  # inches; letters stay large where the picture is shrunk to a telephone's width
_MOST = 10  # lines that can be told apart
_NUMBERED = 12  # classes of a confusion matrix whose counts fit into it
_NAMED = 40


def plot_lines(
    lines: Mapping[str, Line],
    path: str | Path,
    *,
    title: str,
    x_label: str,
    y_label: str,
    diagonal: bool = False,
) -> Path:
    """Plot curves whose both axes go from 0 to 1, such as precision against recall.

    Args:
        lines: name to x and y values; the first ten are drawn.
        path: the PNG file.
        title, x_label, y_label: what is seen.
        diagonal: draw the line of chance.

    Raises:
        RunFolderError: the file cannot be written.
    """
    shown = dict(list(lines.items())[:_MOST])
    figure = _style.new_figure(_WIDTH, 4.2 + 0.16 * math.ceil(len(shown) / 2))
    axes = figure.subplots()
    left_out = f" ({_MOST} of {len(lines)})" if len(lines) > _MOST else ""
    _style.style(axes, title + left_out, x_label, y_label)
    if not shown:
        _style.say_empty(axes, "nothing to draw")
        return _style.save(figure, path)
    if diagonal:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
    for index, (name, (x, y)) in enumerate(shown.items()):
        marker = "o" if len(x) == 1 else None
        axes.plot(x, y, color=PALETTE[index], linewidth=1.6, marker=marker, label=name)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    _style.legend(axes, 2)
    return _style.save(figure, path)


def plot_confusion(
    counts: NDArray[np.int64], names: Sequence[str], path: str | Path, *, title: str
) -> Path:
    """Plot a confusion matrix; colours are shares of the row, numbers are counts.

    Args:
        counts: (C, C), row: what is true, column: what was predicted.
        names: of rows and columns.
        path: the PNG file.
        title: headline.

    Raises:
        RunFolderError: the file cannot be written.
    """
    side = min(12.0, max(_WIDTH, 1.2 + 0.55 * min(len(names), _NUMBERED)))
    figure = _style.new_figure(side, side)
    axes = figure.subplots()
    _style.style(axes, title, "predicted", "true")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    every = math.ceil(len(names) / _NAMED)
    places = range(0, len(names), every)
    shown = [_shorten(name) for name in names[::every]]
    axes.set_xticks(places, shown, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(places, shown, fontsize=8)
    if len(names) <= _NUMBERED:
        _write_counts(axes, counts, shares)
    return _style.save(figure, path)


def _write_counts(axes: "Axes", counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.55 else INK
        axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=8, color=color)


def plot_bars(
    values: Mapping[str, float], texts: Sequence[str], path: str | Path, *, title: str, label: str
) -> Path:
    """Plot a bar for each name, its text beside it.

    Args:
        values: name to length.
        texts: one for each bar.
        path: the PNG file.
        title: headline.
        label: of the axis.

    Raises:
        RunFolderError: the file cannot be written.
    """
    figure = _style.new_figure(_WIDTH, 1.2 + 0.38 * len(values))
    axes = figure.subplots()
    _style.style(axes, title, label)
    lengths = list(values.values())
    axes.barh(range(len(lengths)), lengths, color=PALETTE[0], height=0.7)
    for row, (length, text) in enumerate(zip(lengths, texts, strict=True)):
        axes.text(max(length, 0), row, f" {text}", va="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(lengths)), list(values), fontsize=9)
    axes.set_ylim(len(lengths) - 0.5, -0.5)
    axes.set_xlim(min(0, *lengths, 0), max(*lengths, 1e-3) * 1.35)
    axes.grid(False, axis="y")
    return _style.save(figure, path)


def plot_reliability(
    counts: Sequence[int],
    scores: Sequence[float],
    right: Sequence[float],
    path: str | Path,
    *,
    title: str,
) -> Path:
    """Plot how often scores were right, and below how many there are.

    Args:
        counts: (B,) of bins of equal width from 0 to 1.
        scores: (B,) mean scores, NaN of empty bins.
        right: (B,) shares that were right, NaN of empty bins.
        path: the PNG file.
        title: headline.

    Raises:
        RunFolderError: the file cannot be written.
    """
    figure = _style.new_figure(_WIDTH, 5.0)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    width = 1 / len(counts)
    middles = [(i + 0.5) * width for i in range(len(counts))]
    _style.style(upper, title, "", "share that is right")
    upper.bar(middles, np.nan_to_num(right), width=width * 0.92, color=PALETTE[0], alpha=0.75)
    upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
    upper.plot(scores, right, "o", color=INK, markersize=4)
    upper.set(xlim=(0, 1), ylim=(0, 1))
    _style.style(lower, "", "score", "how many")
    lower.bar(middles, counts, width=width * 0.92, color=FAINT, edgecolor=MUTED, linewidth=0.6)
    if max(counts) > 100 * max(1, min(c for c in counts if c) if any(counts) else 1):
        lower.set_yscale("log")
    return _style.save(figure, path)


def _shorten(name: str, length: int = 16) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def rounded(value: Any) -> str:
    """Return a value as tables show it; "–" for None and COCO's -1."""
    if value is None or value == -1:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
