"""Trainings after a search: some subnets and detectors scaled by hand, all equally long."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from razorlite.core.config import Config
from razorlite.core.distributed import broadcast_object
from razorlite.core.errors import ConfigError, DataError, TrainingError
from razorlite.core.files import explain_damage
from razorlite.core.journal import Journal
from razorlite.core.streams import printed_to_stderr
from razorlite.engine.checkpoint import read_checkpoint, save_checkpoint
from razorlite.engine.run_folder import on_main
from razorlite.recipes.experiment import Experiment
from razorlite.recipes.retraining_config import retraining_config
from razorlite.recipes.retraining_plan import Contender
from razorlite.recipes.scored import without_folders
from razorlite.recipes.splits import Splits
from razorlite.recipes.training import train
from razorlite.search import RetrainingConfig

_log = logging.getLogger("razorlite")
_BRIEF = 10  # the search's own training is this many times as long
_SAVES = 5  # checkpoints of one training


@dataclass(frozen=True)
class Trained:
    """What came of a contender.

    Attributes:
        contender: what was trained.
        values: its metric on `data.val` with each seed; fewer where it could not be trained.
    """

    contender: Contender
    values: tuple[float, ...]


@dataclass(frozen=True)
class Retraining:
    """How contenders are trained.

    Attributes:
        config: what they are trained with, but for the subnet.
        steps: of each training.
        before: steps behind the weights that they start from.
        fresh: whether they start from no weights.
        checkpoint: of the supernet.
        metric: name on `data.val`.
        folder: gets a run folder for each training, and results.jsonl.
        seconds: of a step, as the supernet was trained; None where that is not known.
        weights: short name of the supernet's weights.
        describe: subnet to what a checkpoint says of it.
    """

    config: Config
    steps: int
    before: int
    fresh: bool
    checkpoint: str
    metric: str
    folder: Path
    seconds: float | None
    weights: str
    describe: Callable[[Any], dict[str, Any]] = field(compare=False)

    @property
    def how(self) -> str:
        """In words, for reports."""
        start = "from nothing" if self.fresh else "from the supernet's weights"
        return f"trained for {self.steps} steps {start}"

    def run(self, contenders: Sequence[Contender]) -> list[Trained]:
        """Train what has not been trained; say before what it will cost.

        All ranks call it. A training that was stopped goes on exactly where it was.

        Raises:
            Interrupted: a signal asked the search to end; the state is saved.
        """
        journal = Journal(self.folder / "results.jsonl")
        lines = broadcast_object(on_main(journal.read)) or []
        with explain_damage(journal.path):
            known = {line["key"]: _measured(line["value"]) for line in lines}
        due = [(one, seed) for one in contenders for seed in range(one.seeds)]
        left = [pair for pair in due if self._key(*pair) not in known]
        self._announce(len(due), len(left))
        start = time.monotonic()
        for number, (one, seed) in enumerate(left, start=1):
            rest = _time_left(time.monotonic() - start, number - 1, len(left))
            _log.info("training %d of %d: %s, seed %d%s", number, len(left), one.name, seed, rest)
            value, key = self._train(one, seed), self._key(one, seed)
            known[key] = value
            record = {"key": key, "name": one.name, "seed": seed, "steps": self.steps}
            record |= {"metric": self.metric, "value": value}
            on_main(lambda record=record: journal.append(record))  # type: ignore[misc]
        return [Trained(one, tuple(self._values(one, known))) for one in contenders]

    def _values(self, one: Contender, known: Mapping[str, float | None]) -> Iterator[float]:
        for seed in range(one.seeds):
            value = known[self._key(one, seed)]
            if value is not None:
                yield value

    def _announce(self, count: int, left: int) -> None:
        if not left:
            return
        minutes = "unknown"
        if self.seconds is not None:
            minutes = (
                f"about {left * self.steps * self.seconds / 60:.0f} min at the supernet's pace"
            )
        _log.info(
            "for the report %d subnets and detectors scaled by hand are %s (%d trainings are done; "
            "the others take %d steps, %s; search.retraining=null leaves this out, and --resume "
            "goes on in the middle)", count, self.how, count - left, left * self.steps, minutes,
        )  # fmt: skip

    def _train(self, one: Contender, seed: int) -> float | None:
        """Return the metric; None where it cannot be trained, which is logged."""
        folder = self.folder / self._key(one, seed)
        file = self.folder / f"{self._key(one, seed)}.yaml"
        on_main(lambda: one.subnet.save(file))
        try:
            with printed_to_stderr():  # its evaluations are not the search's
                metrics = train(self.config, folder, self._overrides(one, seed, file), resume=True)
        except (TrainingError, ConfigError, DataError) as error:
            _log.warning("%s, seed %d: %s", one.name, seed, error)
            return None
        return float(metrics[self.metric])

    def _overrides(self, one: Contender, seed: int, file: Path) -> dict[str, Any]:
        return {
            **shortened(self.config, self.steps),
            **one.overrides,
            "subnet": str(file),
            "load_from": None if self.fresh else self._start(one, file),
            "seed": self.config.get("seed", 0) + seed,
        }

    def _start(self, one: Contender, file: Path) -> str:
        """Return the weights to start from, written where they are not the supernet's."""
        if not one.weights:
            return self.checkpoint
        path = file.with_suffix(".pt")
        content = {"model": dict(one.weights), "meta": self.describe(one.subnet)}
        on_main(lambda: save_checkpoint(path, content))
        return str(path)

    def _key(self, one: Contender, seed: int) -> str:
        """Return a short name for all that decides a training's result."""
        parts = [one.subnet.choices, one.subnet.channels, one.overrides, seed, self.steps]
        parts += [self.fresh, self.weights, without_folders(dict(self.config.tree))]
        text = json.dumps([dict(p) if isinstance(p, Mapping) else p for p in parts], default=str)
        return f"{one.kind.replace(' ', '_')}-{sha256(text.encode()).hexdigest()[:12]}"


def shortened(config: Config, steps: int) -> dict[str, Any]:
    """Return overrides under which a configuration is trained for so many steps."""
    changed: dict[str, Any] = {
        "train.max_epochs": None,
        "train.max_steps": steps,
        "train.eval_every": None,
        "train.patience": None,
        "train.save_every": max(1, steps // _SAVES),
    }
    if config.get("data.train.last_epochs") is not None:
        changed["data.train.last_epochs"] = None
    warmup = config.get("train.schedule.warmup_steps")
    if isinstance(warmup, int) and warmup > steps // 4:
        changed["train.schedule.warmup_steps"] = steps // 4
    return changed


def retraining_of(
    merged: Config,
    settings: RetrainingConfig,
    *,
    checkpoint: str | Path,
    metric: str,
    folder: Path,
    weights: str,
    describe: Callable[[Any], dict[str, Any]],
) -> Retraining:
    """Return how subnets are trained after a search.

    Args:
        merged: the search's configuration.
        settings: the `retraining` block.
        checkpoint: of the supernet.
        metric: name of what they are compared by.
        folder: of the search.
        weights: short name of the supernet's weights.
        describe: subnet to what a checkpoint says of it.

    Raises:
        ConfigError: the configuration of the trainings is wrong, or has nothing to train with or
            to evaluate on.
    """
    config, experiment = retraining_config(merged, settings)
    if experiment.train is None or experiment.data is None or experiment.data.val is None:
        raise ConfigError("subnets are trained with `train` and evaluated on `data.val`; add both")
    step, seconds = _pace(checkpoint)
    fresh = settings.start == "fresh"
    return Retraining(
        config=config,
        steps=settings.steps or _steps(experiment, settings),
        before=0 if fresh else step,
        fresh=fresh,
        checkpoint=str(checkpoint),
        metric=metric,
        folder=folder / "retraining",
        seconds=seconds,
        weights=weights,
        describe=describe,
    )


def _measured(value: Any) -> float | None:
    return None if value is None else float(value)


def _time_left(seconds: float, done: int, total: int) -> str:
    """Return how long the rest takes, by those that are done; nothing before the first one is."""
    if not done:
        return ""
    return f"; about {seconds / done * (total - done) / 60:.0f} min are left"


def _steps(experiment: Experiment, settings: RetrainingConfig) -> int:
    """Return a configuration's own steps, or a tenth of them if it is the search's."""
    assert experiment.train is not None
    steps = experiment.train.max_steps
    if steps is None:
        splits = Splits(replace(experiment, subnet="one"), torch.device("cpu"))  # holds out none
        steps = experiment.train.total_steps(len(splits.train_loader()))
    return steps if settings.config is not None else max(1, steps // _BRIEF)


def _pace(checkpoint: str | Path) -> tuple[int, float | None]:
    """Return the steps behind a supernet's weights, and the seconds of one."""
    content = read_checkpoint(checkpoint)
    progress = content.get("progress") if isinstance(content, Mapping) else None
    if not isinstance(progress, Mapping) or not progress.get("step"):
        return 0, None
    return int(progress["step"]), float(progress["seconds"]) / int(progress["step"])
