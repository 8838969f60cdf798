"""How often each value of each dimension was chosen, as a PNG file."""

from collections.abc import Mapping
from pathlib import Path

from razorlite.visual import _style
from razorlite.visual._style import INK, PALETTE


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
        left = 0.0
        for index, (value, share) in enumerate(values.items()):
            color = PALETTE[index % len(PALETTE)]
            axes.barh(row, share, left=left, color=color, height=0.75, alpha=0.75)
            if share > 0.12:
                at = left + share / 2
                axes.text(at, row, value, ha="center", va="center", fontsize=7, color=INK)
            left += share
    axes.set_yticks(range(len(shares)), list(shares), fontsize=7)
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    return _style.save(figure, path)
