"""What a run shows: how far it is on standard error, evaluations on standard output."""

import math
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from razorlite.core.distributed import is_main
from razorlite.core.ranks import is_first
from razorlite.core.streams import is_quiet, safe_console
from razorlite.engine.hooks import Hook
from razorlite.engine.run_state import RunState

_HIDDEN = ("kind", "step", "epoch", "seconds", "eval_seconds", "memory_mb", "lr")


class ProgressDisplay(Hook):
    """Prints train and evaluation lines, with a live bar and ETA where a person may be reading.

    Evaluations are what a run is for: they go to standard output, also where it is `quiet`. All
    else goes to standard error.

    Args:
        console: where progress is shown; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or safe_console("stderr", highlight=False)
        self._bar: Progress | None = None

    def start(self, run: RunState) -> None:
        """Open the bar."""
        if _tells() and self._console.is_terminal and not is_quiet():
            self._bar = Progress(
                *_columns(self._console.width),
                console=self._console,
                expand=True,
                redirect_stdout=sys.stdout.isatty(),  # a file gets its lines; a terminal has a bar
            )
            self._task = self._bar.add_task("", total=run.total_steps, completed=run.step_number)
            self._bar.start()

    def after_step(self, run: RunState, metrics: Mapping[str, Any]) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=run.step_number)

    def line(self, run: RunState, line: Mapping[str, Any]) -> None:
        """Show a line: evaluations always as text, training beside the bar if there is one."""
        if not _tells():
            return
        if line["kind"] == "eval":
            _print(safe_console(highlight=False), run, line)
        elif self._bar is not None:
            self._bar.update(self._task, description=_metrics(line))
        elif not is_quiet():
            _print(self._console, run, line)

    def end(self, run: RunState) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _tells() -> bool:
    """Return whether this process shows its progress: of several one alone, even if each trains."""
    return is_main() and is_first()


def _print(console: Console, run: RunState, line: Mapping[str, Any]) -> None:
    console.print(describe(line, run.total_steps, eta(run)), markup=False, soft_wrap=True)


def _columns(width: int) -> list[ProgressColumn]:
    """Return bar, steps, time left and, in what is left of the line, the latest metrics."""
    rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return [
        BarColumn(bar_width=max(4, min(40, width // 5))),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False, table_column=rest),
    ]


def eta(run: RunState) -> str:
    """Return the time left as h:mm:ss, by the mean pace of this process.

    Evaluations count from the first one on, as before nobody knows how long they take.
    """
    done = run.step_number - run.first_step
    if done <= 0:
        return "?"
    left = (run.seconds - run.first_seconds) / done * (run.total_steps - run.step_number)
    share = 1.0
    if run.max_seconds is not None and left > 0:
        share = min(share, max(0.0, run.max_seconds - run.seconds) / left)
    if run.evaluations:
        coming = run.config.evaluations_left(run.step_number, run.batches)
        left += coming * run.evaluation_seconds / run.evaluations
    minutes, seconds = divmod(math.ceil(left * share), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def describe(line: Mapping[str, Any], total: int, left: str) -> str:
    """Return a line of metrics.jsonl as text."""
    head = f"step {line['step']}/{total} epoch {line['epoch']}"
    if line["kind"] == "eval":
        return f"{head}  evaluation: {_metrics(line)}"
    return f"{head}  {_metrics(line)}  lr {line['lr']:.3g}  eta {left}"


def _metrics(line: Mapping[str, Any]) -> str:
    metrics = {k: v for k, v in line.items() if k not in _HIDDEN}
    shown = {k.replace("images_per_second", "images/s"): v for k, v in metrics.items()}
    return "  ".join(
        f"{name} {value:.4g}" for name, value in shown.items() if isinstance(value, int | float)
    )
