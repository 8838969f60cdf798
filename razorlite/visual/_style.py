"""Colours, fonts and figure set-up of all pictures; matplotlib is imported when one is drawn."""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from razorlite.core.files import write_bytes_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2937"
MUTED = "#6b7280"
FAINT = "#e5e7eb"
ACCENT = "#dc2626"
PALETTE = (
    "#1d4ed8",
    "#c2410c",
    "#15803d",
    "#7e22ce",
    "#0e7490",
    "#be185d",
    "#854d0e",
    "#4b5563",
    "#4d7c0f",
    "#9f1239",
)
MARKERS = ("s", "D", "^", "v", "P", "X", "<", ">")
_DPI = 140


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches, drawn without a screen or global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def style(axes: "Axes", title: str = "", x_label: str = "", y_label: str = "") -> None:
    """Give axes their titles, a light grid and no box."""
    axes.set_title(title, fontsize=11, color=INK, loc="left", pad=14)
    axes.set_xlabel(x_label, fontsize=9, color=INK)
    axes.set_ylabel(y_label, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=MUTED)
    axes.grid(True, color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9ca3af")


def legend(axes: "Axes", columns: int = 1, below: float = 0.16) -> None:
    """Put a legend under the axes, where it can cover no data; none for fewer than two entries.

    Args:
        axes: whose legend it is.
        columns: of entries.
        below: where it begins, as a share of the axes' height.
    """
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) > 1:
        axes.legend(
            handles,
            labels,
            fontsize=8,
            frameon=False,
            loc="upper center",
            bbox_to_anchor=(0.5, -below),
            ncols=columns,
            labelcolor=INK,
        )


def say_empty(axes: "Axes", text: str) -> None:
    """Say in the middle of empty axes why there is nothing to see."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED)
    axes.set(xticks=[], yticks=[], xlabel="", ylabel="")
    axes.spines[:].set_visible(False)


def save(figure: "Figure", path: str | Path) -> Path:
    """Write a figure as PNG, whole or not at all, and return the path.

    Raises:
        RunFolderError: the file cannot be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    write_bytes_atomic(path, buffer.getvalue())
    return Path(path)


def class_color(label: int) -> str:
    """Return the colour of a class; ten different ones, then again."""
    return PALETTE[label % len(PALETTE)]


def whole_numbers(axes: "Axes") -> None:
    """Mark whole numbers alone on the x axis."""
    from matplotlib.ticker import MaxNLocator

    low, high = axes.get_xlim()
    if high - low < 2:
        axes.set_xlim((low + high) / 2 - 1, (low + high) / 2 + 1)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def finite(*values: Any) -> bool:
    """Return whether all are numbers that can be drawn."""
    return all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values
    )
