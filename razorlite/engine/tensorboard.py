"""Metrics for TensorBoard, an extra."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from razorlite.core.distributed import is_main
from razorlite.core.errors import ConfigError
from razorlite.engine.hooks import Hook
from razorlite.engine.run_state import RunState


class TensorBoard(Hook):
    """Writes every metric of metrics.jsonl as a scalar `kind/name`.

    Args:
        folder: where event files go.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = str(folder)
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "train.tensorboard is on but TensorBoard is not installed; "
                "pip install 'razorlite[tensorboard]', or set train.tensorboard=false"
            ) from error
        self._open = SummaryWriter

    def start(self, run: RunState) -> None:
        """Open the event file; events past a resumed step are hidden."""
        if is_main():
            self._writer = self._open(self._folder, purge_step=run.step_number + 1)

    def line(self, run: RunState, line: Mapping[str, Any]) -> None:
        """Write a line's metrics."""
        if self._writer is not None:
            for name, value in line.items():
                if isinstance(value, int | float) and name != "step":
                    self._writer.add_scalar(f"{line['kind']}/{name}", value, line["step"])

    def end(self, run: RunState) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
