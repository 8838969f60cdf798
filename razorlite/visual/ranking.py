"""What a supernet scores against what training gives, as a PNG file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from razorlite.visual import _style
from razorlite.visual._style import MARKERS, PALETTE

Ranked = Mapping[str, Sequence[tuple[float | None, Sequence[float]]]]


def plot_ranking(
    subnets: Ranked, path: str | Path, *, metric: str = "AP", title: str = "Ranking"
) -> Path:
    """Plot subnets' values after training against the supernet's scores.

    Args:
        subnets: kind to score and values of some seeds of each subnet, whose range is drawn.
        path: the PNG file.
        metric: of the values.
        title: headline.

    Raises:
        RunFolderError: the file cannot be written.
    """
    figure = _style.new_figure(7.2, 5)
    axes = figure.subplots()
    _style.style(axes, title, "supernet's score", f"{metric} after training")
    drawn = False
    for index, (kind, pairs) in enumerate(subnets.items()):
        known = [(score, values) for score, values in pairs if score is not None and values]
        if not known:
            continue
        scores, means = [s for s, _ in known], [mean(values) for _, values in known]
        below = [m - min(v) for m, (_, v) in zip(means, known, strict=True)]
        above = [max(v) - m for m, (_, v) in zip(means, known, strict=True)]
        marker, color = MARKERS[index % len(MARKERS)], PALETTE[(index + 1) % len(PALETTE)]
        axes.errorbar(
            scores, means, yerr=[below, above], fmt=marker, color=color, label=kind, capsize=3
        )
        drawn = True
    if not drawn:
        _style.say_empty(axes, "nothing was trained")
    axes.margins(0.1)
    _style.legend(axes, 3)
    return _style.save(figure, path)
