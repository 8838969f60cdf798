"""The command `prune`: a trained model with fewer channels, fine-tuned."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from razorlite.core.config import Overrides, load
from razorlite.core.errors import ConfigError
from razorlite.cost import count
from razorlite.engine.checkpoint_io import save_checkpoint
from razorlite.engine.launch import session
from razorlite.engine.run_folder import claimed, on_main, write_config
from razorlite.prune import Budget, PruneConfig, apply, compose, polynomial_schedule
from razorlite.recipes.building import Built, build, load_trained
from razorlite.recipes.card import ModelCard
from razorlite.recipes.classes import compare
from razorlite.recipes.experiment import ConfigLike, Experiment, read
from razorlite.recipes.folders import run_folder
from razorlite.recipes.paths import portable
from razorlite.recipes.splits import Splits
from razorlite.recipes.training import build_runner, describe, draw
from razorlite.space import Subnet
from razorlite.trace import channel_groups
from razorlite.visual import plot_channels

_log = logging.getLogger("razorlite")


def prune(
    config: ConfigLike,
    checkpoint: str | Path,
    work_dir: str | Path | None = None,
    overrides: Overrides = (),
) -> Subnet:
    """Remove a trained model's least important channels down to a budget, and fine-tune.

    The `prune` block gives the budget, the `train` block the fine-tuning; without one the slim
    model is saved as it is. The run folder's config.yaml names its subnet.yaml, so that every
    command takes the slim model as any other.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        checkpoint: weights of the configuration's model.
        work_dir: run folder.
        overrides: "a.b=value" each, or a mapping of paths to plain values.

    Returns:
        What is kept, with its cost and scores; of an exported subnet, with its choices.

    Raises:
        BudgetError: the budget cannot be met; the message names the reachable range.
        CheckpointError: the checkpoint is not of this model.
        ConfigError: the configuration is wrong, has no `prune` block or describes a supernet.
        RunFolderError: the run folder holds another run.
    """
    merged, experiment = read(config, overrides)
    settings = _settings(experiment)
    with session(experiment.device, experiment.seed) as device:
        built = build(experiment)
        if built.is_supernet:
            raise ConfigError("the configuration is a supernet; name a path of it by `subnet`")
        source = load_trained(built, checkpoint, experiment)
        splits = Splits(experiment, device, source.classes)
        if experiment.train is not None:
            compare(built.model, splits.classes, dataset=splits.train)
        budgets = _budgets(settings, built, experiment)
        settings.pruner().plan(built.model, experiment.shape)  # an impossible budget fails here
        folder = run_folder(merged, experiment, work_dir, "pruned")
        final = load(merged, {"subnet": str(folder / "subnet.yaml")})
        with claimed(folder, "prune", resume=False):
            write_config(folder, portable(final, folder).dump())
            kept = built.subnet or Subnet()
            sizes = {g.name: g.size for g in channel_groups(built.model, experiment.shape)}
            scores: dict[str, float] = {}
            for number, budget in enumerate(budgets, 1):
                last = number == len(budgets)
                kept, built = _shrink(built, kept, settings, budget, experiment)
                on_main(partial(_write, kept, sizes, folder))
                where = folder if last else folder / f"round_{number}"
                card = replace(describe(final, experiment, built, source.classes), subnet=kept)
                if experiment.data is None:
                    card = replace(card, preprocess=source.preprocess)
                elif experiment.train is not None:
                    card = replace(card, classes=splits.classes)
                scores = _tune(built, splits, experiment, where, card)
            origin = {**kept.origin, "checkpoint": str(checkpoint)}
            kept = kept.with_figures(scores=scores, origin=origin)
            on_main(partial(_write, kept, sizes, folder))
    return kept


def _settings(experiment: Experiment) -> PruneConfig:
    if experiment.prune is None:
        raise ConfigError(
            "the configuration has no `prune` block; add one, such as prune: {budget: {macs: 60%}}"
        )
    return experiment.prune


def _budgets(settings: PruneConfig, built: Built, experiment: Experiment) -> list[Budget]:
    """Return the budget of every round; the last is the configured one."""
    if settings.rounds == 1:
        return [settings.budget]
    whole = count(built.model, experiment.shape)
    ends = {limit.name: limit.high for limit in settings.budget.limits(vars(whole))}
    early = []
    for number in range(settings.rounds - 1):
        shares = {
            name: polynomial_schedule(final=end / getattr(whole, name), rounds=settings.rounds)
            for name, end in ends.items()
        }
        early.append(Budget(**{n: s[number] * getattr(whole, n) for n, s in shares.items()}))
    return [*early, settings.budget]


def _shrink(
    built: Built, kept: Subnet, settings: PruneConfig, budget: Budget, experiment: Experiment
) -> tuple[Subnet, Built]:
    """Prune once more; return all that is kept of the unpruned model, and the slim model."""
    before = count(built.model, experiment.shape)
    plan = settings.pruner(budget).plan(built.model, experiment.shape)
    slim = apply(built.model, plan, shape=experiment.shape, leaves=settings.leaves)
    whole = compose(kept, plan) if kept.channels else plan
    after = count(slim, experiment.shape)
    _log.info(
        "pruned from %.1f to %.1f M MACs, from %.2f to %.2f M parameters",
        before.macs / 1e6,
        after.macs / 1e6,
        before.params / 1e6,
        after.params / 1e6,
    )
    whole = replace(
        whole,
        choices=kept.choices,
        fingerprint=kept.fingerprint,
        cost={"macs": after.macs, "params": after.params},
    )
    return whole, replace(built, model=slim)


def _tune(
    built: Built, splits: Splits, experiment: Experiment, folder: Path, card: ModelCard
) -> dict[str, float]:
    """Fine-tune as the `train` block says, or save the slim model as it is."""
    if experiment.train is None:
        content = {"model": built.model.state_dict(), "meta": card.to_meta()}
        on_main(lambda: save_checkpoint(folder / "checkpoints" / "last.pt", content))
        return {}
    runner = build_runner(experiment, built, splits, folder, card)
    figures = runner.run()
    draw(built, splits, folder)
    return figures


def _write(kept: Subnet, sizes: Mapping[str, int], folder: Path) -> None:
    """Write the subnet file and a picture of what is kept of each group."""
    kept.save(folder / "subnet.yaml")
    counts = {name: len(indices) for name, indices in kept.channels.items()}
    before = {name: sizes[name] for name in counts}
    plot_channels(before, counts, folder / "pictures" / "channels.png")
