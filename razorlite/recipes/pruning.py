"""The command `prune`: a trained model with fewer channels, fine-tuned."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from razorlite.core.config import Overrides
from razorlite.core.distributed import broadcast_object
from razorlite.core.errors import ConfigError, RunFolderError
from razorlite.core.ranks import several
from razorlite.core.streams import results
from razorlite.engine.launch import session
from razorlite.engine.run_folder import check_run_folder, claimed
from razorlite.prune import PruneConfig
from razorlite.recipes.building import build_plain, channels_of, load_trained
from razorlite.recipes.checking import check_before_work
from razorlite.recipes.expanding import read_expanded
from razorlite.recipes.experiment import ConfigLike, Experiment, read
from razorlite.recipes.folders import run_folder
from razorlite.recipes.pruning_rounds import PruningJob
from razorlite.recipes.splits import Splits
from razorlite.space import Subnet


def prune(
    config: ConfigLike,
    checkpoint: str | Path,
    work_dir: str | Path | None = None,
    overrides: Overrides = (),
    resume: bool = False,
) -> Subnet:
    """Remove a trained model's least important channels down to a budget, and fine-tune.

    The `prune` block gives the budget, the `train` block the fine-tuning; without one the slim
    model is saved as it is. The run folder's config.yaml names its subnet.yaml and the slim weights
    that fine-tuning starts from, so that every command takes the slim model as any other. Of
    several rounds, each but the last has a folder of its own in it and hands on the weights of its
    last.pt.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        checkpoint: weights of the configuration's model.
        work_dir: run folder.
        overrides: "a.b=value" each, or a mapping of paths to plain values.
        resume: go on with the pruning in the run folder, exactly where it stopped.

    Returns:
        What is kept, with its cost and the scores of best.pt (of last.pt where there is none); of
        an exported subnet, with its choices.

    Raises:
        BudgetError: the budget cannot be met; the message names the reachable range.
        CheckpointError: the checkpoint is not of this model.
        ConfigError: the configuration is wrong, has no `prune` block or describes a supernet.
        RunFolderError: the run folder holds another run.
        Interrupted: a signal asked the run to end; the state is saved.
    """
    merged, experiment = read_expanded(config, overrides)
    settings = _settings(experiment)
    check_before_work(merged, experiment)
    folder = run_folder(merged, experiment, work_dir, "pruned")
    with session(experiment.device, experiment.seed) as device:
        check_run_folder(folder, "prune", resume=resume)
        built = build_plain(experiment)
        source = load_trained(built, checkpoint, experiment)
        splits = Splits(experiment, device, source.classes)
        if experiment.train is not None or settings.sees_images:
            splits.match(built.model)
        job = PruningJob(
            config=read(config, overrides)[0],
            settings=settings,
            built=built,
            splits=splits,
            source=source,
            folder=folder,
            resume=resume,
        )
        with _kept_times(job):
            job.check()
        with claimed(folder, "prune", resume=resume):
            if broadcast_object(resume and job.is_finished()):
                results.info(
                    "the pruning in %s is finished: there is nothing to go on with", folder
                )
                return Subnet.load(folder / "subnet.yaml")
            return job.run(str(checkpoint))


def show_groups(config: ConfigLike, overrides: Overrides = ()) -> dict[str, Any]:
    """Return what pruning can reach of a configuration's model; needs no `prune` block.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        overrides: "a.b=value" each, or a mapping of paths to plain values.

    Returns:
        Plain values: channel groups, their members, and what stays and why; see `Channels.report`.

    Raises:
        ConfigError: the configuration is wrong or describes a supernet.
        ExportError: the model cannot be followed.
    """
    experiment = read_expanded(config, overrides)[1]
    return channels_of(build_plain(experiment).model, experiment).report()


@contextmanager
def _kept_times(job: PruningJob) -> Iterator[None]:
    """Keep what was measured where Ctrl-C ends the work; a resumed run takes it over."""
    try:
        yield
    except KeyboardInterrupt:
        if job.has_measured and not several():  # several processes do not end together
            with suppress(RunFolderError), claimed(job.folder, "prune", resume=job.resume):
                job.write_times()
        raise


def _settings(experiment: Experiment) -> PruneConfig:
    if experiment.prune is None:
        raise ConfigError(
            "the configuration has no `prune` block; add one, such as prune: {budget: {macs: 60%}}"
        )
    return experiment.prune
