"""What may happen around the steps of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from razorlite.engine.run_state import RunState


class Hook:
    """Called by a runner on every rank; override what is needed.

    A hook must not draw from the global random generators, or resumed runs would differ.
    """

    def start(self, run: RunState) -> None:
        """Act before the first step, after a resumed state is restored."""

    def before_step(self, run: RunState) -> None:
        """Act before a step; `run.step_number` counts the steps done."""

    def after_step(self, run: RunState, metrics: Mapping[str, Any]) -> None:
        """Act after the weights have moved."""

    def line(self, run: RunState, line: Mapping[str, Any]) -> None:
        """Act on a line of metrics.jsonl; its `kind` is "train" or "eval"."""

    def saved(self, run: RunState, path: str) -> None:
        """Act after a checkpoint was written."""

    def end(self, run: RunState) -> None:
        """Act after the last step, also when the run fails or is interrupted."""
