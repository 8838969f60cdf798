"""What the parts of several models cost, as a PNG file."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from razorlite.visual import _style
from razorlite.visual._style import INK, PALETTE
from razorlite.visual.plots import cost_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Costs = Mapping[str, Mapping[str, float]]


def plot_parts(
    costs: Costs, path: str | Path, *, cost: str = "macs", title: str = "Cost per part"
) -> Path:
    """Plot a bar for each model, divided into its parts.

    Args:
        costs: model to part to cost.
        path: the PNG file.
        cost: what the costs are: macs, params or a name of one's own.
        title: headline.

    Raises:
        RunFolderError: the file cannot be written.
    """
    height = min(24.0, 1.9 + 0.34 * max(3, len(costs)))
    figure = _style.new_figure(8, height)
    axes = figure.subplots()
    totals = [sum(parts.values()) for parts in costs.values()]
    scale, label = cost_unit(cost, totals)
    _style.style(axes, title, label)
    if not costs:
        _style.say_empty(axes, "there is no model")
        return _style.save(figure, path)
    names = list(dict.fromkeys(part for parts in costs.values() for part in parts))
    _stack(axes, costs, names, scale)
    axes.set_yticks(range(len(costs)), list(costs), fontsize=8)
    axes.set_ylim(len(costs) - 0.5, -0.5)
    axes.grid(False, axis="y")
    _style.legend(axes, min(5, len(names)), below=0.6 / (height - 1.3))
    return _style.save(figure, path)


def _stack(axes: "Axes", costs: Costs, names: Sequence[str], scale: float) -> None:
    """Draw the bars of each part from where those before it end; wide ones have their share."""
    totals = [sum(parts.values()) / scale for parts in costs.values()]
    left = [0.0] * len(costs)
    for name, color in zip(names, itertools.cycle(PALETTE), strict=False):
        widths = [parts.get(name, 0) / scale for parts in costs.values()]
        rows = range(len(costs))
        axes.barh(rows, widths, left=left, color=color, height=0.72, alpha=0.75, label=name)
        for row, width in enumerate(widths):
            if width > 0.09 * max(totals):
                text, at = f"{width / totals[row]:.0%}", left[row] + width / 2
                axes.text(at, row, text, ha="center", va="center", fontsize=7, color=INK)
        left = [a + b for a, b in zip(left, widths, strict=True)]
