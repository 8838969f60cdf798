"""How often each value of each dimension was chosen, as a PNG file."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from razorlite.visual import _style
from razorlite.visual._style import INK, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LETTER = 0.0085  # share of the width that a letter takes


def plot_choices(
    shares: Mapping[str, Mapping[str, float]],
    path: str | Path,
    *,
    title: str = "What the best candidates chose",
) -> Path:
    """Plot a bar for each dimension, divided by how often its values were chosen.

    Args:
        shares: dimension to value to share, 0 to 1.
        path: the PNG file.
        title: headline.

    Raises:
        RunFolderError: the file cannot be written.
    """
    figure = _style.new_figure(8, min(24.0, 1.6 + 0.3 * max(3, len(shares))))
    axes = figure.subplots()
    _style.style(axes, title, "share of the best candidates")
    if not shares:
        _style.say_empty(axes, "there is nothing to choose")
        return _style.save(figure, path)
    for row, values in enumerate(shares.values()):
        _divide(axes, row, values)
    axes.set_yticks(range(len(shares)), list(shares), fontsize=7)
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    return _style.save(figure, path)


def _divide(axes: "Axes", row: int, values: Mapping[str, float]) -> None:
    """Draw one bar; a value is written where its share has room for it."""
    left = 0.0
    for value, share, color in zip(values, values.values(), itertools.cycle(PALETTE), strict=False):
        axes.barh(row, share, left=left, color=color, height=0.75, alpha=0.75)
        if share > _LETTER * (len(value) + 1):
            at = left + share / 2
            axes.text(at, row, value, ha="center", va="center", fontsize=7, color=INK)
        left += share
