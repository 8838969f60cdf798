"""What a configuration file may say: the dataclasses every command reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import nn

from razorlite import data, evaluation, models
from razorlite.core import config as core_config
from razorlite.core.config import Config, Factory
from razorlite.distill.config import DistillerConfig
from razorlite.engine.config import TrainConfig
from razorlite.evaluation import Metric
from razorlite.prune.config import PruneConfig
from razorlite.recipes.data import DataConfig
from razorlite.search.config import SearchConfig
from razorlite.space import Mutator

_REGISTERING = (data, evaluation, models)  # importing them fills the table of type names


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One configuration file, checked and typed.

    Attributes:
        model: the detector or classifier.
        data: images and how to read them.
        metric: how predictions are judged.
        train: optimiser, schedule, length.
        mutator: turns the model's placeholders into choices: the model becomes a supernet.
        subnet: a subnet file; the model is exported (choices) or slimmed (channels) to it.
        distiller: a teacher and what to learn from it.
        search: searcher, constraints and how candidates are scored.
        prune: importance, budget and rounding.
        load_from: checkpoint whose weights the model starts from.
        shape: (height, width) in pixels of the input that costs are stated for.
        seed: seeds every random choice.
        device: where to run; auto takes a GPU if there is one.
        work_dir: run folder; work_dirs/<name of the config> by default.
        custom_imports: the user's own modules to import first.
    """

    model: Factory[nn.Module]
    data: DataConfig | None = None
    metric: Factory[Metric] | None = None
    train: TrainConfig | None = None
    mutator: Factory[Mutator] | None = None
    subnet: str | None = None
    distiller: DistillerConfig | None = None
    search: SearchConfig | None = None
    prune: PruneConfig | None = None
    load_from: str | None = None
    shape: tuple[int, int] = (224, 224)
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    work_dir: str | None = None
    custom_imports: list[str] = field(default_factory=list)


def load_config(
    config: str | Path | Mapping[str, Any] | Config, overrides: Sequence[str] = ()
) -> Config:
    """Read a configuration and check the whole of it against the constructors it names.

    Raises:
        ConfigError: every fault found, one a line, each with file and line.
    """
    if not isinstance(config, Config):
        config = core_config.load(config, overrides)
    core_config.check(config, Experiment)
    return config
