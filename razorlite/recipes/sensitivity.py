"""The command `prune --sensitivity`: what a trained model loses where one group alone is cut."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from razorlite.core.config import Config, Overrides
from razorlite.core.distributed import world_size
from razorlite.core.files import csv_text, write_text_atomic
from razorlite.core.journal import Journal
from razorlite.core.streams import results
from razorlite.data import dataset_digest
from razorlite.engine.launch import session
from razorlite.engine.run_folder import claimed, on_main
from razorlite.prune import PruneConfig
from razorlite.prune.sensitivity import GroupCut, Sensitivity
from razorlite.recipes.building import Built, build_plain, channels_left, load_trained
from razorlite.recipes.checking import check_before_work
from razorlite.recipes.expanding import read_expanded
from razorlite.recipes.experiment import ConfigLike, Experiment
from razorlite.recipes.folders import run_folder
from razorlite.recipes.pruning_scores import gathered, trial_of
from razorlite.recipes.scored import weights_digest, without_folders
from razorlite.recipes.splits import Splits
from razorlite.visual.sensitivity import plot_sensitivity


def sensitivity(
    config: ConfigLike,
    checkpoint: str | Path,
    work_dir: str | Path | None = None,
    overrides: Overrides = (),
    resume: bool = False,
) -> list[dict[str, Any]]:
    """Cut 25, 50 and 75 % of each channel group alone, and measure the loss without training.

    Channels go by the importance and the rounding of the `prune` block, which needs no budget here;
    losses are of `prune.batches` training batches, with batch norms calibrated on them. The run
    folder gets sensitivity.csv, sensitivity.json and pictures/sensitivity.png.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        checkpoint: weights of the configuration's model.
        work_dir: run folder.
        overrides: "a.b=value" each, or a mapping of paths to plain values.
        resume: go on with what the run folder has.

    Returns:
        One row for each group and cut; see `razorlite.prune.sensitivity.GroupCut`.

    Raises:
        BudgetError: no channel group can shrink.
        CheckpointError: the checkpoint is not of this model.
        ConfigError: the configuration is wrong, describes a supernet or has no data.train.
        RunFolderError: the run folder holds another run.
    """
    merged, experiment = read_expanded(config, overrides)
    check_before_work(merged, experiment)
    with session(experiment.device, experiment.seed) as device:
        built = build_plain(experiment)
        source = load_trained(built, checkpoint, experiment)
        splits = Splits(experiment, device, source.classes)
        splits.match(built.model)
        folder = run_folder(merged, experiment, work_dir, "sensitivity")
        with claimed(folder, "prune --sensitivity", resume=resume):
            rows = [asdict(cut) for cut in _cuts(merged, experiment, built, splits, folder)]
            on_main(lambda: _write(rows, folder))
    return rows


def _cuts(
    merged: Config, experiment: Experiment, built: Built, splits: Splits, folder: Path
) -> Iterator[GroupCut]:
    """Measure, and say what was found, one after the other."""
    settings = experiment.prune or PruneConfig(budget="50%")
    channels = channels_left(built, experiment)
    found = Sensitivity(
        channels,
        gathered(replace(settings, budget="100%").pruner(), channels, splits),
        trial_of(splits, settings.batches),
        journal=Journal(folder / "sensitivity.jsonl"),
        facts=_facts(merged, experiment, built, splits, settings.batches),
    )
    for cut in found.cuts():
        text = "%s: %d of %d kept, %.1f %% of the MACs gone, loss %+.4g"
        results.info(text, cut.group, cut.kept, cut.size, 100 * cut.macs, cut.rise)
        yield cut


def _facts(
    merged: Config, experiment: Experiment, built: Built, splits: Splits, batches: int
) -> str:
    """Return all that losses depend on beside what is cut: other ones of a resumed run are not."""
    data = [dataset_digest(splits.train), without_folders(merged.get("data.train"))]
    data += [splits.data.preprocess.to_dict(), batches, experiment.seed, world_size()]
    facts = [weights_digest(built.model), experiment.shape, splits.compute.dtype, *data]
    return json.dumps(facts, default=str)


def _write(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    write_text_atomic(folder / "sensitivity.csv", csv_text(rows))
    write_text_atomic(folder / "sensitivity.json", json.dumps(list(rows), indent=1))
    plot_sensitivity(rows, folder / "pictures" / "sensitivity.png")
