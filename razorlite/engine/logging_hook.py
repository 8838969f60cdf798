"""What a run logs, handed on to a tracker."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from razorlite.core.distributed import is_main
from razorlite.engine.hooks import Hook
from razorlite.engine.loggers import Logger
from razorlite.engine.run_state import RunState

_log = logging.getLogger("razorlite")


class LoggingHook(Hook):
    """Hands every number of metrics.jsonl to a logger, as `kind/name`.

    A tracker that fails after it was opened is named once and left out from then on: training goes
    on, and metrics.jsonl has everything.

    Args:
        logger: where the numbers go.
    """

    def __init__(self, logger: Logger) -> None:
        self._logger, self._works = logger, False

    def start(self, run: RunState) -> None:
        """Open the logger."""
        if is_main():
            self._logger.open(run.folder, run.step_number)
            self._works = True

    def line(self, run: RunState, line: Mapping[str, Any]) -> None:
        """Hand on a line's numbers."""
        values = {
            f"{line['kind']}/{name}": value
            for name, value in line.items()
            if isinstance(value, int | float) and name != "step"
        }
        self._tried(lambda: self._logger.write(values, line["step"]))

    def end(self, run: RunState) -> None:
        """Close the logger."""
        self._tried(self._logger.close)
        self._works = False

    def _tried(self, act: Callable[[], None]) -> None:
        if not self._works:
            return
        try:
            act()
        except Exception as error:  # each tracker has errors of its own
            self._works = False
            name, first = type(self._logger).__name__, (str(error).splitlines() or [""])[0]
            _log.warning(
                "%s gets nothing more (%s: %s); metrics.jsonl has all",
                name, type(error).__name__, first,
            )  # fmt: skip
