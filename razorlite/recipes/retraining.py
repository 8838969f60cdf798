"""Trainings after a search: some subnets and detectors scaled by hand, all equally long."""

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from razorlite.core.config import Config
from razorlite.core.distributed import is_main, world_size
from razorlite.core.errors import ConfigError, DataError, TrainingError
from razorlite.core.files import explain_damage, write_text_atomic
from razorlite.core.ranks import apart
from razorlite.core.streams import printed_to_stderr
from razorlite.engine.checkpoint import read_checkpoint, save_checkpoint
from razorlite.engine.run_folder import told_by_main
from razorlite.recipes.digests import data_digests
from razorlite.recipes.retraining_config import retraining_config
from razorlite.recipes.retraining_plan import Contender
from razorlite.recipes.scored import without_folders
from razorlite.recipes.short_runs import shortened
from razorlite.recipes.side_by_side import side_by_side
from razorlite.recipes.splits import Splits
from razorlite.recipes.training import train
from razorlite.search import RetrainingConfig

_log = logging.getLogger("razorlite")
_BRIEF = 10  # the search's own training is this many times as long


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
        folder: gets a run folder for each training, and a JSON file with what came of it.
        seconds: of a step, as the supernet was trained; None where that is not known.
        weights: short name of the supernet's weights.
        data: digests of the images and annotations, by split.
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
    data: Mapping[str, str]
    describe: Callable[[Any], dict[str, Any]] = field(compare=False)

    @property
    def how(self) -> str:
        """In words, for reports."""
        start = "from nothing" if self.fresh else "from the supernet's weights"
        return f"trained for {self.steps} steps {start}"

    def run(self, contenders: Sequence[Contender]) -> list[Trained]:
        """Train what has not been trained; say before what it will cost.

        All ranks call it; each trains its share as one process would. A training that was stopped
        goes on exactly where it was, one that stopped at its images is tried again; others that
        failed would fail again and are told again.

        Raises:
            Interrupted: a signal asked the search to end; the state is saved.
        """
        due = {self._key(one, s): (one, s) for one in contenders for s in range(one.seeds)}
        known = told_by_main(lambda: self._known(due))
        left = [pair for key, pair in due.items() if key not in known]
        self._announce(len(due), len(left))
        pace = _Pace(math.ceil(len(left) / world_size()))
        pieces = [
            partial(self._result, one, seed, f"training {number} of {len(left)}", pace)
            for number, (one, seed) in enumerate(left, start=1)
        ]
        found = side_by_side(pieces, [float(one.cost.get("macs", 1)) for one, _ in left])
        for (one, seed), result in zip(left, found, strict=True):
            known[self._key(one, seed)] = result
        for key, (one, seed) in due.items():
            if is_main() and known[key].value is None:
                _log.warning("%s, seed %d: %s", one.name, seed, known[key].why)
        return [Trained(one, self._values(one, known)) for one in contenders]

    def _known(self, keys: Iterable[str]) -> dict[str, "_Result"]:
        """Return what earlier sittings have found."""
        found = {}
        for key in keys:
            path = self.folder / f"{key}.json"
            if path.exists():
                with explain_damage(path):
                    kept = json.loads(path.read_text(encoding="utf-8"))
                    found[key] = _Result(_measured(kept["value"]), str(kept["why"]))
        return found

    def _result(self, one: Contender, seed: int, what: str, pace: "_Pace") -> "_Result":
        """Train one contender with one seed; what came of it is kept, unless it is tried again."""
        _log.info("%s: %s, seed %d%s", what, one.name, seed, pace.rest())
        try:
            result = _Result(self._train(one, seed))
        except (TrainingError, ConfigError, DataError) as error:
            result = _Result(None, str(error), again=isinstance(error, DataError))
        pace.done += 1
        if not result.again:
            self._keep(one, seed, result)
        return result

    def _keep(self, one: Contender, seed: int, result: "_Result") -> None:
        record = {"name": one.name, "seed": seed, "steps": self.steps, "metric": self.metric}
        text = json.dumps({**record, "value": result.value, "why": result.why})
        write_text_atomic(self._file(one, seed, ".json"), f"{text}\n")

    def _values(self, one: Contender, known: Mapping[str, "_Result"]) -> tuple[float, ...]:
        values = (known[self._key(one, seed)].value for seed in range(one.seeds))
        return tuple(value for value in values if value is not None)

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

    def _train(self, one: Contender, seed: int) -> float:
        folder, file = self._file(one, seed, ""), self._file(one, seed, ".yaml")
        one.subnet.save(file)
        with printed_to_stderr():  # its evaluations are not the search's
            metrics = train(self.config, folder, self._overrides(one, seed, file), resume=True)
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
        save_checkpoint(path, content)
        return str(path)

    def _file(self, one: Contender, seed: int, suffix: str) -> Path:
        return self.folder / f"{self._key(one, seed)}{suffix}"

    def _key(self, one: Contender, seed: int) -> str:
        """Return a short name for all that decides a training's result."""
        parts = [one.subnet.choices, one.subnet.channels, one.overrides, seed, self.steps]
        parts += [self.data, self.fresh, self.weights, without_folders(dict(self.config.tree))]
        text = json.dumps([dict(p) if isinstance(p, Mapping) else p for p in parts], default=str)
        return f"{one.kind.replace(' ', '_')}-{sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class _Result:
    """What came of one training.

    Attributes:
        value: its metric; None where there is none.
        why: there is none.
        again: whether a resumed search tries again, as what was wrong can be mended.
    """

    value: float | None
    why: str = ""
    again: bool = False


class _Pace:
    """How fast this process gets on with its share of the trainings."""

    def __init__(self, share: int) -> None:
        self.done, self._share, self._start = 0, share, time.monotonic()

    def rest(self) -> str:
        """Return how long the rest takes, by those that are done; nothing before the first is."""
        return _time_left(time.monotonic() - self._start, self.done, self._share)


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
        DataError: a data set cannot be read.
    """
    with apart():  # each is one process's own, whatever their number
        config, experiment = retraining_config(merged, settings)
        if experiment.train is None or experiment.data is None or experiment.data.val is None:
            raise ConfigError("subnets are trained with `train` and `data.val`; add both")
        splits = Splits(replace(experiment, subnet="one"), torch.device("cpu"))  # holds out none
        steps, data = settings.steps or _steps(splits, settings), data_digests(splits)
    step, seconds = _pace(checkpoint)
    fresh = settings.start == "fresh"
    return Retraining(
        config=config,
        steps=steps,
        before=0 if fresh else step,
        fresh=fresh,
        checkpoint=str(checkpoint),
        metric=metric,
        folder=folder / "retraining",
        seconds=seconds,
        weights=weights,
        data=data,
        describe=describe,
    )


def _measured(value: Any) -> float | None:
    return None if value is None else float(value)


def _time_left(seconds: float, done: int, total: int) -> str:
    """Return how long the rest takes, by those that are done; nothing before the first one is."""
    if not done:
        return ""
    return f"; about {seconds / done * max(1, total - done) / 60:.0f} min are left"


def _steps(splits: Splits, settings: RetrainingConfig) -> int:
    """Return a configuration's own steps, or a tenth of them if it is the search's."""
    assert splits.experiment.train is not None
    steps = splits.experiment.train.max_steps
    if steps is None:
        steps = splits.experiment.train.total_steps(len(splits.train_loader()))
    return steps if settings.config is not None else max(1, steps // _BRIEF)


def _pace(checkpoint: str | Path) -> tuple[int, float | None]:
    """Return the steps behind a supernet's weights, and the seconds of one."""
    content = read_checkpoint(checkpoint)
    progress = content.get("progress") if isinstance(content, Mapping) else None
    if not isinstance(progress, Mapping) or not progress.get("step"):
        return 0, None
    return int(progress["step"]), float(progress["seconds"]) / int(progress["step"])
