"""Several trainings in one picture."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from razorlite.visual import _style
from razorlite.visual._style import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = Mapping[str, Any]
_NO_METRICS = ("step", "epoch")
_FIRST = ("AP", "mAP", "top1")  # metrics that are drawn, the first that there is


def metrics_in(record: Record) -> dict[str, float]:
    """Return the finite metrics of one line of a metrics.jsonl, none where it is no evaluation."""
    if record.get("kind") != "eval":
        return {}
    named = {n: v for n, v in record.items() if n not in _NO_METRICS and not n.endswith("seconds")}
    return {
        n: float(v) for n, v in named.items() if isinstance(v, int | float) and math.isfinite(v)
    }


def plot_runs(runs: Mapping[str, Sequence[Record]], path: str | Path) -> Path:
    """Plot the loss and the first metric of several runs against the training step.

    Args:
        runs: name to the lines of its metrics.jsonl.
        path: the PNG file.

    Raises:
        RunFolderError: the file cannot be written.
    """
    figure = _style.new_figure(11, 4.4)
    left, right = figure.subplots(1, 2)
    metric = _metric_of_all(runs)
    _draw(left, runs, "loss", "Training loss", "no loss was logged")
    _draw(right, runs, metric, f"Evaluation: {metric}", "nothing was evaluated")
    _style.legend(left)
    return _style.save(figure, path)


def _metric_of_all(runs: Mapping[str, Sequence[Record]]) -> str:
    names = [name for lines in runs.values() for line in lines for name in metrics_in(line)]
    return next((name for name in (*_FIRST, *names) if name in names), _FIRST[0])


def _draw(
    axes: "Axes", runs: Mapping[str, Sequence[Record]], name: str, title: str, empty: str
) -> None:
    _style.style(axes, title, "step", name)
    kind = "train" if name == "loss" else "eval"
    drawn = False
    for index, (run, lines) in enumerate(runs.items()):
        own = [(r["step"], r[name]) for r in lines if r.get("kind") == kind and name in r]
        points = [(step, value) for step, value in own if math.isfinite(value)]
        if points:
            color = PALETTE[index % len(PALETTE)]
            marker = "o" if len(points) < 3 else ""
            axes.plot(
                *zip(*points, strict=True), color=color, marker=marker, markersize=4, label=run
            )
            drawn = True
    if not drawn:
        _style.say_empty(axes, empty)
