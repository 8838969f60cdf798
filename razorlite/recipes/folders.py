"""Where commands write."""

from pathlib import Path

from razorlite.core.config import Config
from razorlite.core.errors import RunFolderError
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

    Raises:
        RunFolderError: no folder can have this name.
    """
    chosen = experiment.work_dir if work_dir is None else work_dir
    if chosen is not None:
        if not str(chosen) or "\0" in str(chosen):
            raise RunFolderError(f"{str(chosen)!r} is no name of a run folder; choose another")
        return Path(chosen)
    return Path("work_dirs") / (f"{config.name}_{suffix}" if suffix else config.name)
