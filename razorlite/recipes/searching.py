"""The command `search`: the best subnet of a trained supernet within a budget."""

import logging
from functools import partial
from hashlib import sha256
from pathlib import Path

import torch
from torch import nn

from razorlite.core.config import Overrides
from razorlite.core.errors import ConfigError
from razorlite.cost import Constraint, CostTable
from razorlite.engine.launch import session
from razorlite.engine.run_folder import claimed, on_main, write_config
from razorlite.evaluation import evaluate
from razorlite.recipes.building import Built, build, load_trained, place
from razorlite.recipes.classes import compare
from razorlite.recipes.experiment import ConfigLike, Experiment, read
from razorlite.recipes.folders import run_folder
from razorlite.recipes.paths import portable
from razorlite.recipes.pictures import search_pictures
from razorlite.recipes.splits import Splits
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
        DataError: the search would score on the test images.
        RunFolderError: the run folder holds a search and `resume` is off.
    """
    merged, experiment = read(config, overrides)
    settings = experiment.search or SearchConfig()
    with session(experiment.device, experiment.seed) as device:
        built, space = _supernet(experiment)
        table = CostTable.build(space, experiment.shape)
        Constraint.parse(settings.constraints, table)  # an impossible one fails before any work
        card = load_trained(built, checkpoint, experiment)
        splits = Splits(experiment, device, card.classes)
        compare(space.model, splits.classes, dataset=splits.train)
        splits.check_search_split(settings.allow_test_split)
        folder = run_folder(merged, experiment, work_dir, "search")
        with claimed(folder, "search", resume=resume):
            study = build_study(
                settings,
                space=space,
                table=table,
                score=supernet_score(space, splits, settings, device),
                journal=folder / "journal.jsonl",
                seed=experiment.seed,
                settings={"weights": _digest(space.model), "shape": list(experiment.shape)},
                progress=_report,
            )
            start = partial(write_config, folder, portable(merged, folder).dump())
            best = study.run(resume=resume, started=start)
            subnet = best.subnet.with_figures(
                origin={"made_by": "search", "checkpoint": str(checkpoint), "trial": best.number}
            )
            on_main(lambda: _finish(study, subnet, folder))
    return subnet


def supernet_score(
    space: SearchSpace, splits: Splits, settings: SearchConfig, device: torch.device
) -> SupernetScore:
    """Return what scores candidates on the search's images."""
    place(space.model, device)
    loader = splits.eval_loader(splits.search, "search", alone=True)
    metric = splits.metric(splits.search, "search", settings.metric, "search.metric")
    return SupernetScore(
        space=space,
        evaluate=lambda model: evaluate(model, loader, metric, gather=False),
        batches=splits.calibration(settings.recalibrate_batches),
    )


def _supernet(experiment: Experiment) -> tuple[Built, SearchSpace]:
    built = build(experiment)
    if built.space is None or not built.is_supernet:
        raise ConfigError(
            "the configuration describes no supernet; a search needs a `mutator` and no `subnet`"
        )
    return built, built.space


def _digest(model: nn.Module) -> str:
    """Return a short name for a model's weights: a resumed search must have the same ones."""
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _report(study: Study, trial: Trial) -> None:
    shown = trial.error or f"{study.metric} {trial.score:.4f}"
    macs = f"{trial.cost['macs'] / 1e6:.1f} M MACs" if trial.cost else ""
    best = max((t.score for t in study.trials if t.score is not None), default=float("nan"))
    _log.info("trial %d: %s, %s; best %.4f", trial.number, shown, macs, best)


def _finish(study: Study, subnet: Subnet, folder: Path) -> None:
    subnet.save(folder / "subnet.yaml")
    search_pictures(study, folder)
    figures = ", ".join(f"{name} {value:.4f}" for name, value in list(subnet.scores.items())[:2])
    _log.info(
        "best of %d trials: %s, %.1f M MACs, %.2f M parameters; written to %s",
        len(study.trials),
        figures,
        subnet.cost["macs"] / 1e6,
        subnet.cost["params"] / 1e6,
        folder / "subnet.yaml",
    )
