"""What may happen around the steps of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from razorlite.engine.runner import Runner


class Hook:
    """Called by a runner on every rank; override what is needed.

    A hook must not draw from the global random generators, or resumed runs would differ.
    """

    def start(self, runner: Runner) -> None:
        """Act before the first step, after a resumed state is restored."""

    def before_step(self, runner: Runner) -> None:
        """Act before a step; `runner.step_number` counts the steps done."""

    def after_step(self, runner: Runner, metrics: Mapping[str, Any]) -> None:
        """Act after the weights have moved."""

    def line(self, runner: Runner, line: Mapping[str, Any]) -> None:
        """Act on a line of metrics.jsonl; its `kind` is "train" or "eval"."""

    def saved(self, runner: Runner, path: str) -> None:
        """Act after a checkpoint was written."""

    def end(self, runner: Runner) -> None:
        """Act after the last step, also when the run fails or is interrupted."""
