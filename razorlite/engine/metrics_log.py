"""metrics.jsonl: a line per logged step and per evaluation."""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from razorlite.core.distributed import is_main
from razorlite.core.files import write_text_atomic
from razorlite.core.journal import Journal
from razorlite.engine.hooks import Hook
from razorlite.engine.run_state import RunState


class MetricsLog(Hook):
    """Appends each line to metrics.jsonl; a resumed run first drops what it will write again."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._journal = Journal(self.path)

    def start(self, run: RunState) -> None:
        """Drop what an interrupted run wrote after its last checkpoint."""
        if is_main() and run.step_number == 0:
            self.path.unlink(missing_ok=True)  # what a run left that has saved nothing
        elif is_main() and self.path.exists():
            logged = run.step_number if run.settled else run.step_number - 1
            cut_after(self.path, logged)

    def line(self, run: RunState, line: Mapping[str, Any]) -> None:
        """Append a line."""
        if is_main():
            self._journal.append({key: _plain(value) for key, value in line.items()})


def cut_after(path: Path, step: int) -> None:
    """Drop the lines of a metrics.jsonl past a step.

    Raises:
        RunFolderError: the file is damaged or cannot be written.
    """
    kept = [line for line in Journal(path).read() if line.get("step", 0) <= step]
    write_text_atomic(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))


def memory_mb(device: torch.device) -> float:
    """Return the peak memory in MiB: of the GPU, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # not on Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _plain(value: Any) -> Any:
    """Return a metric to 8 digits; JSON knows no NaN: one that is not finite is null."""
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value
