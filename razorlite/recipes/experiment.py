"""What a configuration file may say: the dataclasses every command reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import nn

from razorlite import evaluation, models
from razorlite.core import config as core_config
from razorlite.core.compute import Compute
from razorlite.core.config import Config, Factory, Overrides, Partial
from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Filled, Seed, Size, checked
from razorlite.distill import DistillerConfig
from razorlite.engine.config import TrainConfig
from razorlite.engine.steps import Step
from razorlite.evaluation.metric import Metric
from razorlite.prune.config import PruneConfig
from razorlite.recipes.data_config import DataConfig
from razorlite.recipes.paths import located
from razorlite.recipes.rate_scaling import scaled_rate
from razorlite.search.config import SearchConfig
from razorlite.space import Mutator, Preparer

_REGISTERING = (evaluation, models)  # importing them fills the table of type names


@checked
@dataclass(frozen=True, kw_only=True)
class LoadFrom:
    """Weights to start from, and how to read them.

    Attributes:
        checkpoint: a file or a URL.
        strict: refuse weights that do not fit in all but the classes; else load what fits.
        prefix: what the names start with in the file, or the mapping in it; found by itself.
        ignore: names to leave out, such as "bbox_head.*"; they keep their initial values.
        ema: take averaged weights, where the file has both; else those that were trained.
    """

    checkpoint: str
    strict: bool = True
    prefix: str = ""
    ignore: list[str] = field(default_factory=list)
    ema: bool = True


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One configuration file, checked and typed.

    Attributes:
        model: the detector or classifier.
        data: images and how to read them.
        metric: how predictions are evaluated.
        train: optimiser, schedule, length.
        step: how a batch becomes gradients: a step, or a list of steps around one another, the
            outermost first (see `razorlite.recipes.steps.build_step`); by default as `mutator` and
            `distiller` say.
        mutator: what may vary in the model, which becomes a supernet: choices for its placeholders,
            elastic layers, or a list of such preparers, each of which sees what those before it
            did.
        subnet: a subnet file; the model is exported (choices) or slimmed (channels) to it.
        distiller: a teacher and what to learn from it.
        search: searcher, constraints and how candidates are scored.
        prune: importance, budget and rounding.
        load_from: checkpoint whose weights the model starts from, or a block that also says how
            to read it; of a supernet, where `subnet` is given, the chosen path's.
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
    step: Partial[Step] | Annotated[list[Partial[Step]], Filled()] | None = None
    mutator: Mutator | Preparer | Annotated[list[Preparer], Filled()] | None = None
    subnet: str | None = None
    distiller: DistillerConfig | None = None
    search: SearchConfig | None = None
    prune: PruneConfig | None = None
    load_from: str | LoadFrom | None = None
    shape: Size = (224, 224)
    seed: Seed = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    work_dir: str | None = None
    custom_imports: list[str] = field(default_factory=list)

    @property
    def preparers(self) -> Sequence[Preparer]:
        """What makes the model a supernet, in order; empty if it is none."""
        if isinstance(self.mutator, Preparer):
            return (self.mutator,)
        return self.mutator or ()

    @property
    def without_data(self) -> bool:
        """Whether the student learns from images that a generator makes, not from `data.train`."""
        return self.distiller is not None and self.distiller.synthetic is not None

    def __post_init__(self) -> None:
        if self.without_data:
            self._check_without_data()
        if self.distiller is not None and self.distiller.cache is not None:
            self._check_alike()
        last = self.data.train.last_epochs if self.data and self.data.train else None
        if last is not None:
            for key, train in self.trainings.items():
                last.check(train, key)

    @property
    def trainings(self) -> Mapping[str, TrainConfig]:
        """The trainings that the configuration describes, by their keys."""
        before = self.prune.before if self.prune is not None else None
        found = {"train": self.train, "prune.before.train": before.train if before else None}
        return {key: train for key, train in found.items() if train is not None}

    def _check_alike(self) -> None:
        """Refuse to keep a teacher's outputs for images that look different in each epoch.

        Raises:
            ConfigError: a training transform draws.
        """
        train = self.data.train if self.data else None
        last = train.last_epochs.transforms if train and train.last_epochs else []
        drawing = [t for t in [*(train.transforms if train else []), *last] if t.draws]
        if drawing:
            raise ConfigError(
                f"wants training images that look the same in each epoch, and "
                f"{type(drawing[0]).__name__} of data.train draws; leave one of the two out",
                key="distiller.cache",
            )

    def _check_without_data(self) -> None:
        """Refuse what does not go with images that a generator makes.

        Raises:
            ConfigError: as described.
        """
        key = "data.train" if self.data and self.data.train else "mutator" if self.mutator else None
        if key is not None:
            raise ConfigError(
                "does not go with distiller.synthetic, which makes the images that a plain student "
                f"is trained on; leave it out by {key}=null",
                key=key,
            )
        if self.train is not None and (self.train.max_steps is None or self.train.accumulate > 1):
            key = "train.max_epochs" if self.train.max_steps is None else "train.accumulate"
            raise ConfigError(
                "counts batches of images, and distiller.synthetic makes them without end; set "
                "train.max_steps, and distiller.synthetic.batch_size",
                key=key,
            )

    def compute(self, device: torch.device) -> Compute:
        """Return how the models compute in every command: as the `train` block says.

        Raises:
            ConfigError: the device cannot compute in this precision.
        """
        return Compute(device) if self.train is None else self.train.compute(device)


ConfigLike = str | Path | Mapping[str, Any] | Config


def load_config(config: ConfigLike, overrides: Overrides = ()) -> Config:
    """Read a configuration and check the whole of it against the constructors it names.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        overrides: "a.b=value" each, as after --set.

    Raises:
        ConfigError: every fault found, one a line, each with file and line.
    """
    loaded = _merged(config, overrides)
    core_config.check(loaded, Experiment)
    return loaded


def read(
    config: ConfigLike, overrides: Overrides = (), subnet: str | Path | None = None
) -> tuple[Config, Experiment]:
    """Return a checked configuration and its typed form.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        overrides: "a.b=value" each, or a mapping of paths to plain values.
        subnet: a subnet file in the place of the configuration's.

    Raises:
        ConfigError: as `load_config`.
    """
    loaded = located(_merged(config, overrides))
    if subnet is not None:
        loaded = core_config.load(loaded, {"subnet": str(subnet)})
    loaded = scaled_rate(loaded)
    return loaded, core_config.build(loaded, Experiment)


def _merged(config: ConfigLike, overrides: Overrides) -> Config:
    """Return a configuration with overrides, those of keys of `load_from` at last.

    They may change a `load_from` that is a mere path, which then becomes a block.
    """
    mapping = isinstance(overrides, Mapping)
    settings = list(overrides.items() if isinstance(overrides, Mapping) else overrides)
    inner = [s for s in settings if str(s[0] if mapping else s).startswith("load_from.")]
    if not inner:
        return core_config.load(config, overrides)
    outer = [s for s in settings if s not in inner]
    loaded = core_config.load(config, dict(outer) if mapping else outer)  # type: ignore[arg-type]
    if isinstance(loaded.get("load_from"), str):
        block = {"checkpoint": located(loaded).get("load_from")}
        loaded = core_config.load(loaded, {"load_from": block})
    return core_config.load(loaded, dict(inner) if mapping else inner)  # type: ignore[arg-type]
