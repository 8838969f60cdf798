"""The command `search`: the best subnet of a trained supernet within a budget."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from razorlite.core.config import Config, Overrides
from razorlite.core.errors import ConfigError
from razorlite.core.progress import one_of_many
from razorlite.cost import Constraint, CostModel
from razorlite.data import Dataset, split_holdout
from razorlite.data.usable import need_objects
from razorlite.engine.interrupt import stopped_at_once
from razorlite.engine.launch import session
from razorlite.engine.run_folder import check_run_folder, claimed, on_main, write_config
from razorlite.evaluation import Metric, evaluate
from razorlite.evaluation.metric import need_value
from razorlite.recipes.building import Built, build, load_trained
from razorlite.recipes.card import ModelCard, preprocess_of
from razorlite.recipes.checking import check_before_work
from razorlite.recipes.costing import search_costs
from razorlite.recipes.experiment import ConfigLike, Experiment, read
from razorlite.recipes.folders import run_folder
from razorlite.recipes.paths import portable
from razorlite.recipes.retraining_config import check_retraining
from razorlite.recipes.scored import scored_with
from razorlite.recipes.search_end import SearchEnd, TrialLog
from razorlite.recipes.search_evidence import FinishedSearch
from razorlite.recipes.searched_latency import LatencyRounds
from razorlite.recipes.splits import Splits
from razorlite.recipes.starting import unfreeze
from razorlite.recipes.worker_pools import check_workers, worker_pool
from razorlite.search import (
    Elastic,
    SearchConfig,
    Study,
    SupernetScore,
    Trial,
    build_study,
)
from razorlite.space import SearchSpace, Subnet

_log = logging.getLogger("razorlite")
_SEED = 1  # of the first images; images are held out by 0, so that these would be all of them


def search(
    config: ConfigLike,
    checkpoint: str | Path,
    work_dir: str | Path | None = None,
    overrides: Overrides = (),
    resume: bool = False,
    workers: str | None = None,
) -> Subnet:
    """Search a trained supernet for the best subnet within the configuration's constraints.

    Candidates are scored on images that the supernet was not trained on, after refreshing their
    batch-norm statistics. Under torchrun the processes share the candidates and find the same.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        checkpoint: weights of the supernet.
        work_dir: run folder; gets config.yaml, journal.jsonl, subnet.yaml, report.html, pictures
            and front/, the subnet files and weights of all trials that no other beats.
        overrides: "a.b=value" each, or a mapping of paths to plain values.
        resume: go on with the search in the run folder.
        workers: "ray" or "ray:ADDRESS" to score candidates on a Ray cluster.

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
    check_workers(workers)
    merged, experiment = read(config, overrides)
    settings = experiment.search or SearchConfig()
    check_before_work(merged, experiment, trains=False)
    check_retraining(merged, settings)
    trials: list[Trial] = []
    folder = run_folder(merged, experiment, work_dir, "search")
    with (
        stopped_at_once(lambda: _stopped(trials, folder)),
        session(experiment.device, experiment.seed) as device,
    ):
        check_run_folder(folder, "search", resume=resume)
        built, space = _supernet(experiment)
        table = search_costs(experiment, built)
        Constraint.parse(settings.constraints, table)  # an impossible one fails before any work
        splits = _splits(built, checkpoint, experiment, device)
        with (
            claimed(folder, "search", resume=resume),
            worker_pool(workers, settings, device) as pool,
        ):
            score = supernet_score(space, splits, settings, table.names)
            elastic = elastic_score(score, splits, settings)
            studied = partial(
                build_study,
                settings,
                space=space,
                score=score,
                seed=experiment.seed,
                settings=scored_with(merged, experiment, splits, space.model),
                progress=TrialLog(),
                workers=pool,
                elastic=elastic,
            )
            study = studied(table=table, journal=folder / "journal.jsonl")
            trials = study.trials
            start = partial(write_config, folder, portable(merged, folder).dump())
            study.run(resume=resume, started=start)
            again = partial(_again, studied, folder)
            rounds = LatencyRounds(space, table, folder, settings.latency_rounds, again)
            study, latency = rounds.run(study)
            named = partial(_chosen, checkpoint=str(checkpoint))
            chosen = _with_latency(named(study.best), latency)
            describe = partial(_meta, merged, experiment, splits)
            end = SearchEnd(folder, chosen, named, score, describe)
            on_main(lambda: end.write(study))
            found = FinishedSearch(
                study,
                score,
                settings,
                folder,
                pool,
                merged,
                experiment,
                checkpoint,
                describe,
                rounds.stopwatch(study),
            )
            if settings.trust:
                found.report()
    return chosen


def _again(
    studied: Callable[..., Study],
    folder: Path,
    number: int,
    table: CostModel,
    constraint: Constraint,
    known: Sequence[Trial],
) -> Study:
    """Search on with other costs and limits, in a journal of its own."""
    journal = folder / f"journal-{number}.jsonl"
    study = studied(table=table, constraint=constraint, known=known, journal=journal)
    study.run(resume=True)
    return study


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


def supernet_score(
    space: SearchSpace,
    splits: Splits,
    settings: SearchConfig,
    costs: Sequence[str] = (),
) -> SupernetScore:
    """Return what scores candidates on the search's images.

    Args:
        space: of the supernet with its trained weights.
        splits: the images.
        settings: the `search` block.
        costs: kinds of cost; an objective of such a name is no metric.

    Raises:
        ConfigError: an objective is not among the metrics.
        DataError: there is no object to score by.
    """
    splits.compute.place(space.model)
    metric = splits.metric(splits.search, "search")
    for name in settings.objectives.names:
        need_value(metric, None if name in costs else name, "search.metric")
    return SupernetScore(
        space=space,
        evaluate=_evaluation(splits, splits.search, metric),
        autocast=splits.compute.autocast,
        batches=splits.calibration(settings.recalibrate_batches),
        metric=metric,
    )


def elastic_score(whole: SupernetScore, splits: Splits, settings: SearchConfig) -> Elastic | None:
    """Return what scores candidates on the first images; None where all are scored on all.

    The images are chosen by the hashes of their names: the same for all candidates, on any machine.

    Args:
        whole: of all images; norms are refreshed by its batches.
        splits: the images.
        settings: the `search` block.

    Raises:
        DataError: there are too few images, or the first ones show no object.
    """
    config = settings.elastic
    if config is None:
        return None
    some = splits.search.subset(split_holdout(splits.search, config.share, _SEED)[1])
    need_objects(some, "the first images, search.elastic.share")
    score = SupernetScore(
        space=whole.space,
        evaluate=_evaluation(splits, some, splits.metric(splits.search, "search")),
        autocast=whole.autocast,
        batches=whole.batches,
    )
    return Elastic(config=config, score=score, first_images=len(some), images=len(splits.search))


def _evaluation(
    splits: Splits, images: Dataset, metric: Metric
) -> Callable[[nn.Module], dict[str, float]]:
    loader = splits.eval_loader(images, "search", alone=True)
    for _ in loader:  # keeps all batches, so that candidates are scored on the same images
        pass
    autocast = splits.compute.autocast

    def score(model: nn.Module) -> dict[str, float]:
        with one_of_many():
            return evaluate(model, loader, metric, gather=False, autocast=autocast)

    return score


def _supernet(experiment: Experiment) -> tuple[Built, SearchSpace]:
    built = build(experiment)
    if built.space is None or not built.is_supernet:
        raise ConfigError(
            "the configuration describes no supernet; a search needs a `mutator` and no `subnet`"
        )
    return built, built.space


def _chosen(trial: Trial, checkpoint: str) -> Subnet:
    origin = {"made_by": "search", "checkpoint": checkpoint, "trial": trial.number}
    return trial.subnet.with_results(origin=origin)


def _with_latency(subnet: Subnet, latency: Mapping[str, Any]) -> Subnet:
    if not latency:
        return subnet
    return subnet.with_results(origin={**subnet.origin, "latency": dict(latency)})


def _meta(config: Config, experiment: Experiment, splits: Splits, subnet: Subnet) -> dict[str, Any]:
    card = ModelCard(
        model=experiment.model.type,
        classes=tuple(splits.classes),
        preprocess=preprocess_of(config, experiment),
        subnet=subnet,
        config=config.dump(),
    )
    return card.to_meta()
