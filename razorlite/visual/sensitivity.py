"""What a model loses where one channel group alone is cut, as a PNG file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from razorlite.visual import _style
from razorlite.visual._style import INK, MUTED, PALETTE

_COLORS = (PALETTE[0], PALETTE[1], PALETTE[5])
_MOST = 60  # groups


def plot_sensitivity(rows: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Plot a row for each group: a dot for each cut at the loss that it adds.

    Beside the group's name stands the share of the MACs that goes with its largest cut. Of many
    groups those are shown whose cuts add most.

    Args:
        rows: `group`, `cut` (share, 0 to 1), `macs` (share of the model's that went), `rise`.
        path: the PNG file.

    Raises:
        RunFolderError: the file cannot be written.
    """
    groups = _shown(rows)
    figure = _style.new_figure(5.2, min(26.0, 1.7 + 0.3 * max(3, len(groups))))
    axes = figure.subplots()
    _style.style(axes, x_label="rise of the loss")
    title = "Each group cut alone, and the MACs that its largest cut saves"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
    if not groups:
        _style.say_empty(axes, "no channel group can be pruned")
        return _style.save(figure, path)
    for color, cut in zip(_COLORS, sorted({row["cut"] for row in rows}), strict=False):
        own = [row for row in rows if row["cut"] == cut and row["group"] in groups]
        places = [groups.index(row["group"]) for row in own]
        own_rises = [row["rise"] for row in own]
        axes.scatter(own_rises, places, s=34, color=color, label=f"{cut:.0%} cut", zorder=3)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set_yticks(range(len(groups)), [_label(rows, name) for name in groups], fontsize=9)
    axes.tick_params(axis="y", colors=INK)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xscale("symlog", linthresh=_smallest(rows))
    rises = [float(row["rise"]) for row in rows]
    axes.set_xlim(2 * min(0.0, *rises) - _smallest(rows) / 4, 2 * max(rises))
    figure.legend(fontsize=9, frameon=False, loc="outside lower center", ncols=3)
    return _style.save(figure, path)


def _shown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the groups to show, in the model's order."""
    most: dict[str, float] = {}
    for row in rows:
        most[row["group"]] = max(row["rise"], most.get(row["group"], row["rise"]))
    chosen = set(sorted(most, key=lambda name: -most[name])[:_MOST])
    return [name for name in most if name in chosen]


def _label(rows: Sequence[Mapping[str, Any]], group: str) -> str:
    macs = max(row["macs"] for row in rows if row["group"] == group)
    name = group if len(group) <= 30 else f"…{group[-29:]}"
    return f"{name}  {macs:.1%}"


def _smallest(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return below which rise the scale is linear."""
    rises = sorted(abs(float(row["rise"])) for row in rows)
    return max(rises[len(rises) // 4], 1e-4)
