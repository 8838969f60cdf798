"""Where commands write."""

from pathlib import Path

from razorlite.core.config import Config
from razorlite.recipes.experiment import Experiment


def run_folder(
    config: Config, experiment: Experiment, work_dir: str | Path | None, suffix: str = ""
) -> Path:
    """Return a command's run folder: as asked for, as configured, or below work_dirs/.

    Args:
        config: the merged configuration.
        experiment: its typed form.
        work_dir: what the command line asks for.
        suffix: ends the default name, for commands that share a configuration with `train`.
    """
    if work_dir or experiment.work_dir:
        return Path(work_dir or experiment.work_dir or "")
    return Path("work_dirs") / (f"{config.name}_{suffix}" if suffix else config.name)
