"""A range test of the learning rate as a PNG file."""

from collections.abc import Sequence
from pathlib import Path

from razorlite.visual import _style
from razorlite.visual._style import ACCENT, INK, MUTED, PALETTE


def plot_rates(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    path: str | Path,
    *,
    suggestion: float | None = None,
    configured: float | None = None,
) -> Path:
    """Plot losses against the learning rate that they were reached with.

    Args:
        rates: of each step.
        losses: as many.
        smoothed: likewise.
        path: the PNG file.
        suggestion: rate to mark.
        configured: the configuration's own, to mark as well.

    Raises:
        RunFolderError: the file cannot be written.
    """
    figure = _style.new_figure(7, 4.4)
    axes = figure.subplots()
    _style.style(axes, "Learning-rate range test", "learning rate", "training loss")
    if not losses:
        _style.say_empty(axes, "the first loss was not finite")
        return _style.save(figure, path)
    axes.plot(rates, losses, color=PALETTE[0], alpha=0.25, linewidth=0.9, label="each step")
    axes.plot(rates, smoothed, color=PALETTE[0], linewidth=1.8, label="smoothed")
    if suggestion is not None:
        label = f"falls fastest at {suggestion:.2g}"
        axes.axvline(suggestion, color=ACCENT, linewidth=1.2, label=label)
    if configured:
        label = f"configured: {configured:.2g}"
        axes.axvline(configured, color=MUTED, linewidth=1.2, linestyle="--", label=label)
    axes.set_xscale("log")
    axes.set_ylim(*_limits(smoothed))
    axes.tick_params(axis="x", colors=INK)
    _style.legend(axes, 4, below=0.18)
    return _style.save(figure, path)


def _limits(smoothed: Sequence[float]) -> tuple[float, float]:
    """Return what shows the fall: up to the first loss, and some of the rise behind it."""
    low, first = min(smoothed), smoothed[0]
    span = max(first - low, 0.05 * abs(low), 1e-9)
    return low - 0.15 * span, min(max(smoothed), first + 0.6 * span) + 0.15 * span
