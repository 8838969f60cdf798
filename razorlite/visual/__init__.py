"""Pictures, tables and reports; matplotlib is imported only when something is drawn."""

from razorlite.visual.choices import plot_choices
from razorlite.visual.curves import plot_training
from razorlite.visual.drawing import draw_annotations, draw_detections, draw_grid
from razorlite.visual.gallery import write_gallery
from razorlite.visual.heat import draw_heat_map
from razorlite.visual.parts import plot_parts
from razorlite.visual.plots import (
    pareto_front,
    plot_channels,
    plot_pareto,
    plot_search,
)
from razorlite.visual.ranking import plot_ranking
from razorlite.visual.report import write_report
from razorlite.visual.runs import metrics_in, plot_runs
from razorlite.visual.table import print_table

__all__ = [
    "draw_annotations",
    "draw_detections",
    "draw_grid",
    "draw_heat_map",
    "metrics_in",
    "pareto_front",
    "plot_channels",
    "plot_choices",
    "plot_pareto",
    "plot_parts",
    "plot_ranking",
    "plot_runs",
    "plot_search",
    "plot_training",
    "print_table",
    "write_gallery",
    "write_report",
]
