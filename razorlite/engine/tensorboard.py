"""Metrics for TensorBoard, an extra."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from razorlite.core.errors import ConfigError
from razorlite.engine.loggers import Logger


class TensorBoard(Logger):
    """Writes event files into the folder tensorboard/ of the run.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "train.tensorboard is on but TensorBoard is not installed; "
                "pip install 'razorlite[tensorboard]', or set train.tensorboard=false"
            ) from error
        self._open = SummaryWriter

    def open(self, folder: Path, step: int) -> None:
        """Open the event file; events past a resumed step are hidden."""
        self._writer = self._open(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Write a scalar for each number."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()
