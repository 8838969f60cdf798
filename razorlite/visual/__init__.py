"""Pictures, tables and reports; matplotlib is imported only when something is drawn."""

from razorlite.visual.drawing import draw_detections, draw_grid
from razorlite.visual.plots import (
    pareto_front,
    plot_channels,
    plot_pareto,
    plot_search,
    plot_training,
)
from razorlite.visual.report import write_report
from razorlite.visual.table import print_table

__all__ = [
    "draw_detections",
    "draw_grid",
    "pareto_front",
    "plot_channels",
    "plot_pareto",
    "plot_search",
    "plot_training",
    "print_table",
    "write_report",
]
