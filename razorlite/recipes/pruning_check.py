"""What pruning refuses, found on a model with values that say nothing."""

from dataclasses import replace

from razorlite.core.config import Config, Factory
from razorlite.core.errors import ConfigError
from razorlite.cost import count, peak_memory
from razorlite.deploy.runtimes import check_runtime
from razorlite.prune import (
    Channels,
    DataImportance,
    L1Importance,
    PruneConfig,
    Stopwatch,
    Structures,
)
from razorlite.prune.planning import ignored_groups
from razorlite.recipes.building import Built
from razorlite.recipes.dry_step import plain_build
from razorlite.recipes.experiment import Experiment
from razorlite.recipes.pruning_steps import check_steps

_UNKNOWN_MS = 1e9  # what is measured later; shares of it can be read


def check_budget(config: Config, experiment: Experiment, built: Built) -> None:
    """Refuse a budget that cannot be met.

    Raises:
        BudgetError: as described; the message names the reachable range.
        ConfigError: the settings of pruning do not fit the model.
        ExportError: a package that the runtime of `latency` needs is not installed.
    """
    prune = experiment.prune
    if prune is None or built.is_supernet:
        return
    check_runtime(prune.latency.runtime)
    counted = vars(count(built.model, experiment.shape))
    if "memory" in prune.whole_budget.names:
        counted = {**counted, "memory": peak_memory(built.model, experiment.shape)}
    prune.whole_budget.limits({**counted, "latency_ms": _UNKNOWN_MS})
    if built.subnet is not None or experiment.subnet is None:
        whole = plain_build(config, {})()
        channels = Channels(whole.model, experiment.shape, leaves=prune.leaves)
        check_parts(prune, channels, built)
        if prune.whole_budget.counted is None:  # the rest is measured, which a check does not
            ignored_groups(whole.model, channels.graph, prune.ignore)
        else:
            check_before(prune, channels)
        if prune.before is not None:
            check_steps(experiment, whole, channels)


def check_parts(prune: PruneConfig, channels: Channels, built: Built) -> None:
    """Refuse parts of which the model has none, but for those of which some are gone.

    Raises:
        BudgetError: no channel group can shrink, where channels alone may go.
        ConfigError: as described.
    """
    gone = {} if built.subnet is None else built.subnet.dropped
    kinds = [part for part in prune.parts if part not in gone]
    Structures(channels, kinds, None).check_kinds()


def check_before(
    prune: PruneConfig, channels: Channels, stopwatch: Stopwatch | None = None
) -> None:
    """Refuse a budget that no scores meet, where the scores are not known yet.

    Raises:
        BudgetError: as described; the message names the reachable range.
    """
    settings = replace(prune, importance=Factory(L1Importance, {}))
    settings.pruner(stopwatch).check(channels)


def check_importance(config: Config, experiment: Experiment, built: Built) -> None:
    """Refuse what needs batches where there are none, or no losses.

    Raises:
        ConfigError: as described.
    """
    prune = experiment.prune
    importance = None if prune is None else prune.importance()
    if prune is not None and prune.before is not None and _without_images(experiment):
        raise ConfigError("trains on images, and there is no data.train; add it", key="before")
    if isinstance(importance, DataImportance):
        advice = "or take one of weights, such as L1Importance"
        name = type(importance).__name__
        where = (f"{name} is gathered over", f"{name} needs the gradients of losses")
        _need_losses(where, "importance", advice, experiment, built)
    if prune is not None and prune.tries:
        others = " and ".join(sorted(set(prune.parts) - {"channels"}))
        where = (f"what {others} are worth is found on", f"dropping {others} goes by losses")
        _need_losses(where, "parts", "or let channels alone go", experiment, built)


def _need_losses(
    what: tuple[str, str], key: str, advice: str, experiment: Experiment, built: Built
) -> None:
    """Refuse what needs losses on training images where there are none.

    Raises:
        ConfigError: as described.
    """
    if _without_images(experiment):
        raise ConfigError(
            f"{what[0]} training images, and there is no data.train; add it, {advice}",
            key=key,
        )
    if not hasattr(built.model, "loss"):
        raise ConfigError(
            f"{what[1]}, and {type(built.model).__name__} has no method "
            f"loss(inputs, targets); add it, {advice}",
            key=key,
        )


def _without_images(experiment: Experiment) -> bool:
    return experiment.data is None or experiment.data.train is None
