"""The configuration that subnets are trained with after a search."""

from razorlite.core import config as core_config
from razorlite.core.config import Config
from razorlite.recipes.experiment import Experiment, read
from razorlite.recipes.rate_scaling import scaled_rate
from razorlite.search import RetrainingConfig, SearchConfig

_PLAIN = dict.fromkeys(("step", "distiller", "search", "prune", "load_from"))


def retraining_config(merged: Config, settings: RetrainingConfig) -> tuple[Config, Experiment]:
    """Return what `search.retraining` names, or the search's own without what a supernet needs.

    Args:
        merged: the search's configuration.
        settings: the `retraining` block.

    Raises:
        ConfigError: it is wrong, or cannot be read.
    """
    if settings.config is not None:
        return read(settings.config, {"subnet": None, "load_from": None})
    config = scaled_rate(core_config.load(merged, _PLAIN))
    return config, core_config.build(config, Experiment)


def check_retraining(merged: Config, search: SearchConfig | None) -> None:
    """Refuse before any work a configuration of trainings that would be refused after a search.

    Raises:
        ConfigError: as `retraining_config`.
    """
    if search is not None and search.retraining is not None:
        retraining_config(merged, search.retraining)
