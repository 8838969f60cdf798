"""A search, a trade-off and a pruning, as PNG files."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from razorlite.visual import _style
from razorlite.visual._style import ACCENT, FAINT, MARKERS, MUTED, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[float, float]
Curve = list[Point]

_COUNTS: list[tuple[float, str]] = [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")]
_COSTS: dict[str, tuple[str, list[tuple[float, str]]]] = {
    "macs": ("MACs", _COUNTS),
    "params": ("parameters", _COUNTS),
    "latency_ms": ("latency (ms)", [(1, "")]),
}

_LEGEND = 40  # letters of further names that a legend of one line has room for


def plot_search(
    trials: Sequence[Mapping[str, Any]],
    path: str | Path,
    *,
    metric: str = "AP",
    title: str = "Search",
    control: Sequence[float] = (),
) -> Path:
    """Plot each trial's score by round, and the best score so far.

    Args:
        trials: a search's journal, in order: `score` and `trial`, the number from 0; lines without
            a score, such as failed trials, are left out.
        path: the PNG file.
        metric: what the score is.
        title: headline.
        control: scores of random candidates, in order, to compare the best so far with.
    """
    scored = [t for t in trials if _style.finite(t.get("score"))]
    figure = _style.new_figure(8, 4.4)
    axes = figure.subplots()
    _style.style(axes, title, "trial", metric)
    if not scored:
        _style.say_empty(axes, "no trial has a score yet")
        return _style.save(figure, path)
    scores = [float(t["score"]) for t in scored]
    numbers = [int(t.get("trial", i)) for i, t in enumerate(scored)]
    _shade_rounds(axes, numbers, [int(t.get("round") or 0) for t in scored])
    size = 26 if len(scored) < 200 else 10
    axes.scatter(numbers, scores, s=size, color=PALETTE[0], alpha=0.55, linewidth=0, label="trial")
    best = list(itertools.accumulate(scores, max))
    axes.step(numbers, best, where="post", color=ACCENT, linewidth=1.8, label="best so far")
    if control:
        _draw_control(axes, control)
    _annotate_best(axes, numbers, scores)
    axes.set_xlim(numbers[0] - 0.5, max(numbers[-1], len(control) - 1) + 0.5)
    axes.margins(y=0.12)
    _style.whole_numbers(axes)
    _style.legend(axes, 3)
    return _style.save(figure, path)


def pareto_front(points: Iterable[Point]) -> list[Point]:
    """Return the points that no other beats in cost (lower) and score (higher), cheapest first.

    Of points that are equal in both, one is returned.
    """
    front: list[Point] = []
    for cost, score in sorted(points, key=lambda p: (p[0], -p[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


def plot_pareto(
    points: Sequence[Point],
    path: str | Path,
    *,
    chosen: Point | None = None,
    others: Mapping[str, Sequence[Point]] | None = None,
    cost: str = "macs",
    metric: str = "AP",
    title: str = "Accuracy against cost",
) -> Path:
    """Plot scores against costs, with the Pareto front.

    Args:
        points: (cost, score) of each trial; the cost in MACs, parameters or milliseconds.
        path: the PNG file.
        chosen: the point that was picked; marked by a star.
        others: more points to compare with by name, such as "random" or "largest".
        cost: what the cost is: macs, params, latency_ms or a name of one's own.
        metric: what the score is.
        title: headline.
    """
    others = others or {}
    shown = [p for p in [*points, *(p for ps in others.values() for p in ps)] if _style.finite(*p)]
    shown += [chosen] if chosen and _style.finite(*chosen) else []
    figure = _style.new_figure(7.2, 5)
    axes = figure.subplots()
    scale, label = cost_unit(cost, [p[0] for p in shown])
    _style.style(axes, title, label, metric)
    if not shown:
        _style.say_empty(axes, "no point has a score yet")
        return _style.save(figure, path)
    trials = [(c / scale, s) for c, s in points if _style.finite(c, s)]
    _scatter_trials(axes, trials)
    for index, (name, series) in enumerate(others.items()):
        pairs = [(c / scale, s) for c, s in series if _style.finite(c, s)]
        color, marker = PALETTE[(index + 1) % len(PALETTE)], MARKERS[index % len(MARKERS)]
        _scatter(axes, pairs, name, s=48, color=color, marker=marker, zorder=3)
    if chosen and _style.finite(*chosen):
        star = [(chosen[0] / scale, chosen[1])]
        _scatter(axes, star, "chosen", s=230, color=ACCENT, marker="*", edgecolor="white", zorder=5)
    axes.margins(0.08)
    _style.legend(axes, 5 if sum(map(len, others)) < _LEGEND else 3)
    return _style.save(figure, path)


def plot_channels(
    before: Mapping[str, int],
    after: Mapping[str, int],
    path: str | Path,
    *,
    title: str = "Channels kept",
) -> Path:
    """Plot how many channels of each group a pruning kept.

    Args:
        before: group name -> channels.
        after: group name -> channels kept; a group that is left out kept all.
        path: the PNG file.
        title: headline.
    """
    names = list(before)
    figure = _style.new_figure(8.5, min(24.0, 1.3 + 0.24 * max(4, len(names))))
    axes = figure.subplots()
    _style.style(axes, title, "channels")
    if not names:
        _style.say_empty(axes, "no channel group can be pruned")
        return _style.save(figure, path)
    kept = [after.get(name, before[name]) for name in names]
    rows = range(len(names))
    axes.barh(rows, [before[n] for n in names], color=FAINT, height=0.72, label="before")
    axes.barh(rows, kept, color=PALETTE[0], height=0.72, label="kept")
    _label_channels(axes, names, [before[n] for n in names], kept)
    total, left = sum(before.values()), sum(kept)
    axes.set_title(
        f"{title}: {left} of {total} ({left / max(1, total):.0%})", loc="left", fontsize=11
    )
    return _style.save(figure, path)


def _shade_rounds(axes: "Axes", numbers: Sequence[int], rounds: Sequence[int]) -> None:
    """Shade every other round and number the rounds, as many as can be read."""
    starts = [i for i in range(len(rounds)) if i == 0 or rounds[i] != rounds[i - 1]]
    if len(starts) < 2:
        return
    edges = [numbers[i] - 0.5 for i in starts] + [numbers[-1] + 0.5]
    every = math.ceil(len(starts) / 12)
    for index, (start, end) in enumerate(itertools.pairwise(edges)):
        if index % 2:
            axes.axvspan(start, end, color="#f3f4f6", linewidth=0, zorder=0)
        if index % every == 0:
            text = f"{'round ' if index == 0 else ''}{rounds[starts[index]]}"
            _write_above(axes, (start + end) / 2, text)


def _draw_control(axes: "Axes", scores: Sequence[float]) -> None:
    best = list(itertools.accumulate(scores, max))
    label = "best so far of the random control"
    color, style = PALETTE[0], (0, (4, 2))
    axes.step(
        range(len(best)),
        best,
        where="post",
        color=color,
        linewidth=1.5,
        linestyle=style,
        label=label,
    )


def _write_above(axes: "Axes", x: float, text: str) -> None:
    """Write small text above the axes, centred at a place on the x axis."""
    place = axes.get_xaxis_transform()
    axes.text(x, 1, text, transform=place, ha="center", va="bottom", fontsize=7, color=MUTED)


def _annotate_best(axes: "Axes", numbers: Sequence[int], scores: Sequence[float]) -> None:
    best = max(range(len(scores)), key=lambda i: scores[i])
    right = best < len(scores) * 0.7
    axes.annotate(
        f"{scores[best]:.4g} in trial {numbers[best]}",
        (numbers[best], scores[best]),
        xytext=(6 if right else -6, 6),
        textcoords="offset points",
        ha="left" if right else "right",
        fontsize=8,
        color=ACCENT,
    )


def _scatter_trials(axes: "Axes", trials: Sequence[Point]) -> None:
    size = 26 if len(trials) < 200 else 9
    _scatter(axes, trials, "trial", s=size, color="#9ca3af", alpha=0.7, linewidth=0, zorder=2)
    front = pareto_front(trials)
    if front:
        axes.plot(
            *zip(*front, strict=True),
            color=PALETTE[0],
            linewidth=1.6,
            marker="o",
            markersize=4.5,
            drawstyle="steps-post",
            label="Pareto front",
            zorder=4,
        )


def _scatter(axes: "Axes", points: Sequence[Point], label: str, **style: Any) -> None:
    if points:
        axes.scatter([c for c, _ in points], [s for _, s in points], label=label, **style)


def cost_unit(cost: str, values: Sequence[float]) -> tuple[float, str]:
    """Return the divisor and the axis label that suit the largest value."""
    name, units = _COSTS.get(cost, (cost, [(1, "")]))
    largest = max(values, default=0.0)
    scale, prefix = next((u for u in units if largest >= u[0]), units[-1])
    return scale, f"{prefix} {name}".strip()


def _label_channels(
    axes: "Axes", names: Sequence[str], before: Sequence[int], kept: Sequence[int]
) -> None:
    every = math.ceil(len(names) / 95)
    axes.set_yticks(range(0, len(names), every), [_shorten(n) for n in names[::every]], fontsize=7)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, max(before) * 1.16)
    axes.grid(False, axis="y")
    for row in range(0, len(names), every):
        text = f"{kept[row]} of {before[row]}" if kept[row] != before[row] else f"all {before[row]}"
        axes.text(before[row], row, f" {text}", va="center", fontsize=7, color=MUTED)


def _shorten(name: str, length: int = 40) -> str:
    return name if len(name) <= length else f"…{name[1 - length :]}"
