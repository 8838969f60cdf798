"""The command `search`: the best subnet of a trained supernet within a budget."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from razorlite.core.config import Overrides
from razorlite.core.errors import ConfigError
from razorlite.cost import Constraint, CostTable, cost_text
from razorlite.engine.interrupt import stopped_at_once
from razorlite.engine.launch import session
from razorlite.engine.run_folder import check_run_folder, claimed, on_main, write_config
from razorlite.evaluation import evaluate
from razorlite.recipes.building import Built, build, load_trained
from razorlite.recipes.checking import check_before_work
from razorlite.recipes.experiment import ConfigLike, Experiment, read
from razorlite.recipes.folders import run_folder
from razorlite.recipes.paths import portable
from razorlite.recipes.pictures import or_warn, search_pictures
from razorlite.recipes.scored import scored_with
from razorlite.recipes.splits import Splits
from razorlite.recipes.starting import unfreeze
from razorlite.search import SearchConfig, Study, SupernetScore, Trial, build_study
from razorlite.space import SearchSpace, Subnet

_log = logging.getLogger("razorlite")


def search(
    config: ConfigLike,
    checkpoint: str | Path,
    work_dir: str | Path | None = None,
    overrides: Overrides = (),
    resume: bool = False,
) -> Subnet:
    """Search a trained supernet for the best subnet within the configuration's constraints.

    Candidates are scored on images that the supernet was not trained on, after refreshing their
    batch-norm statistics. Under torchrun the processes share the candidates and find the same.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        checkpoint: weights of the supernet.
        work_dir: run folder; gets config.yaml, journal.jsonl, subnet.yaml and pictures.
        overrides: "a.b=value" each, or a mapping of paths to plain values.
        resume: go on with the search in the run folder.

    Returns:
        The best subnet, with its cost and scores.

    Raises:
        BudgetError: a constraint cannot be met; the message names the reachable range.
        CheckpointError: the checkpoint is not of this supernet.
        ConfigError: the configuration is wrong or describes no supernet.
        DataError: the search would score on images of the test split, or that the supernet was
            trained on.
        RunFolderError: the run folder holds a search and `resume` is off, or one of other scores.
        SearchError: scoring broke down; what is done is kept.
        Interrupted: a signal asked the search to end; what is done is kept.
    """
    merged, experiment = read(config, overrides)
    settings = experiment.search or SearchConfig()
    check_before_work(merged, experiment, trains=False)
    trials: list[Trial] = []
    folder = run_folder(merged, experiment, work_dir, "search")
    with (
        stopped_at_once(lambda: _stopped(trials, folder)),
        session(experiment.device, experiment.seed) as device,
    ):
        check_run_folder(folder, "search", resume=resume)
        built, space = _supernet(experiment)
        table = CostTable.build(space, experiment.shape)
        Constraint.parse(settings.constraints, table)  # an impossible one fails before any work
        splits = _splits(built, checkpoint, experiment, device)
        with claimed(folder, "search", resume=resume):
            study = build_study(
                settings,
                space=space,
                table=table,
                score=supernet_score(space, splits, settings),
                journal=folder / "journal.jsonl",
                seed=experiment.seed,
                settings=scored_with(merged, experiment, splits, space.model),
                progress=_report,
            )
            trials = study.trials
            start = partial(write_config, folder, portable(merged, folder).dump())
            best = study.run(resume=resume, started=start)
            subnet = best.subnet.with_results(
                origin={"made_by": "search", "checkpoint": str(checkpoint), "trial": best.number}
            )
            on_main(lambda: _finish(study, subnet, folder))
    return subnet


def _splits(
    built: Built, checkpoint: str | Path, experiment: Experiment, device: torch.device
) -> Splits:
    """Load the supernet's weights and return images that they can be scored on."""
    card = load_trained(built, checkpoint, experiment)
    unfreeze(built.model, card.unfrozen)
    splits = Splits(experiment, device, card.classes)
    splits.match(built.model)
    splits.check_search_split(experiment.search is not None and experiment.search.allow_test_split)
    splits.check_search_is_new()
    if splits.holds_out:
        splits.check_held_out(card, checkpoint)
    return splits


def _stopped(trials: Sequence[Trial], folder: Path) -> str:
    kept = f"{len(trials)} trials, kept in {folder / 'journal.jsonl'}" if trials else "no trial yet"
    return f"stopped: {kept}; to go on, run the same command again with --resume"


def supernet_score(space: SearchSpace, splits: Splits, settings: SearchConfig) -> SupernetScore:
    """Return what scores candidates on the search's images."""
    splits.compute.place(space.model)
    loader = splits.eval_loader(splits.search, "search", alone=True)
    metric = splits.metric(splits.search, "search", settings.metric, "search.metric")
    for _ in loader:  # keeps all batches, so that candidates are scored on the same images
        pass
    return SupernetScore(
        space=space,
        evaluate=lambda model: evaluate(
            model, loader, metric, gather=False, autocast=splits.compute.autocast
        ),
        autocast=splits.compute.autocast,
        batches=splits.calibration(settings.recalibrate_batches),
    )


def _supernet(experiment: Experiment) -> tuple[Built, SearchSpace]:
    built = build(experiment)
    if built.space is None or not built.is_supernet:
        raise ConfigError(
            "the configuration describes no supernet; a search needs a `mutator` and no `subnet`"
        )
    return built, built.space


def _report(study: Study, trial: Trial) -> None:
    scores = [t.score for t in study.trials if t.score is not None]
    _log.info(
        "trial %d: %s%s; best %s",
        trial.number,
        trial.error or f"{study.metric} {trial.score:.4f}",
        "".join(f", {text}" for text in _costs(study, trial.cost)),
        f"{max(scores):.4f}" if scores else "none yet",
    )


def _finish(study: Study, subnet: Subnet, folder: Path) -> None:
    subnet.save(folder / "subnet.yaml")
    or_warn(lambda: search_pictures(study, folder))
    failed = sum(trial.score is None for trial in study.trials)
    metrics = [f"{name} {value:.4f}" for name, value in list(subnet.scores.items())[:2]]
    _log.info(
        "best of %d trials%s: %s; written to %s",
        len(study.trials),
        f" ({failed} of them failed)" if failed else "",
        ", ".join([*metrics, *_costs(study, subnet.cost)]),
        folder / "subnet.yaml",
    )


def _costs(study: Study, cost: Mapping[str, int | float]) -> list[str]:
    """Return costs as they are printed, those that are limited first."""
    names = [limit.name for limit in study.constraint.limits]
    return [cost_text(name, cost[name]) for name in dict.fromkeys([*names, *cost])]
