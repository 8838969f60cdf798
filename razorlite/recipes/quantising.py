"""From an exported file to one that computes in 8 bits: calibrated, compared, timed, and kept."""

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from razorlite.core import config as core_config
from razorlite.core.errors import CheckpointError, ConfigError, ExportError
from razorlite.data.preprocess import PIXELS
from razorlite.deploy import FileModel, open_file
from razorlite.deploy.quantise import Calibrated, calibrate
from razorlite.deploy.rounded import ranges_in
from razorlite.deploy.sensitivity import Choice, Sensitivity
from razorlite.deploy.timing import processor_milliseconds
from razorlite.engine.checkpoint_io import read_checkpoint
from razorlite.recipes.building import untrained
from razorlite.recipes.experiment import Experiment, read
from razorlite.recipes.loading import Inferencer, dotted_types
from razorlite.recipes.splits import Splits

_log = logging.getLogger("razorlite")
_TRIED = 16  # of the calibration images, on which parts are tried in float
_READ = ("data", "metric", "model", "seed", "shape")
_HEADLINES = ("AP", "mAP", "top1")


class Measure(NamedTuple):
    """The metric of a file: its name, the split that it was measured on, and its value."""

    metric: str
    split: str
    value: float


@dataclass(frozen=True)
class Loss:
    """What 8 bits take from a file's metric.

    Attributes:
        metric: its name; empty if the configuration has none, or no images for it.
        split: that it was measured on.
        accuracy: the metric of the file in float and of the one in 8 bits.
    """

    metric: str = ""
    split: str = ""
    accuracy: tuple[float, float] | None = None

    @classmethod
    def between(cls, exact: Measure | None, small: Measure | None) -> "Loss":
        """Return what is lost from the file in float to the one in 8 bits, as measured alike."""
        if exact is None or small is None:
            return cls()
        return cls(exact.metric, exact.split, (exact.value, small.value))

    @property
    def drop(self) -> float:
        """What is lost, in points: hundredths of the metric."""
        return 0.0 if self.accuracy is None else 100 * (self.accuracy[0] - self.accuracy[1])


@dataclass(frozen=True, kw_only=True)
class Quantised(Loss):
    """A file in 8 bits beside the one in float that it was made of.

    Attributes:
        path: the file.
        images: of the training set that activations were calibrated on.
        floats: parts of the network that stay in float beside its last layers.
        distance: of what both find in calibration images, see `razorlite.deploy.sensitivity.apart`.
        milliseconds: of the processor, for one image with one thread, of the file in float and of
            the one in 8 bits.
    """

    path: Path
    images: int
    floats: tuple[str, ...]
    distance: float
    milliseconds: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        pairs = {name: _named(getattr(self, name)) for name in ("accuracy", "milliseconds")}
        plain = {**asdict(self), "path": str(self.path), "floats": list(self.floats), **pairs}
        return {"format": "onnx", "precision": "int8", **plain}

    def lines(self) -> list[str]:
        """Return what there is to tell, a line each."""
        slow, fast = self.milliseconds
        found = [
            f"wrote {self.path} (int8): calibrated on {self.images} training images; what both "
            f"files find is {self.distance:.1%} apart; in float beside the last layers: "
            f"{', '.join(self.floats) or 'nothing'}"
        ]
        if self.accuracy is not None:
            before, after = self.accuracy
            found.append(
                f"{self.metric} on {self.split}: {before:.4f} in float, {after:.4f} in 8 bits "
                f"({-self.drop:+.2f} points)"
            )
        else:
            found.append("the loss was not measured: there is no metric, data.val or data.test")
        found.append(f"one image, one thread: {slow:.1f} ms in float, {fast:.1f} ms in 8 bits")
        if fast >= slow:
            found.append("INT8 is not faster here: ship the file in float")
        return found


def _named(pair: tuple[float, float] | None) -> dict[str, float] | None:
    """Return a number of the file in float and of the one in 8 bits by their names."""
    return None if pair is None else dict(zip(("float", "int8"), pair, strict=True))


class Quantising:
    """Writes files in 8 bits, each compared with one in float on real images before it is kept.

    Args:
        loaded: the model, whose configuration names the images.
        calibration: how many training images, chosen at random but always the same.
        max_drop: points of the metric that may be lost on the images of data.val (or data.test).

    Raises:
        ConfigError: there is no training set to calibrate on, or a number is out of range.
    """

    def __init__(self, loaded: Inferencer, calibration: int, max_drop: float) -> None:
        if calibration < 1 or not max_drop >= 0:  # NaN neither
            raise ConfigError(
                f"calibration wants at least 1 image and max_drop at least 0 points, got "
                f"{calibration} and {max_drop}"
            )
        self._max_drop, self._learned = max_drop, _learned(loaded.path)
        self._splits = _splits(loaded)
        _log.info("reading %d training images", calibration)
        self._images = _training_images(self._splits, calibration, loaded.path)

    def write(self, exact: Path, out: Path) -> Quantised:
        """Write a file.

        Args:
            exact: the one in float.
            out: where to; a file of that name is replaced.

        Raises:
            ExportError: it cannot be quantised, or loses too much; there is no new file then.
        """
        _log.info("calibrating on %d training images", len(self._images))
        calibrated = calibrate(exact, self._images, self._learned)
        _log.info("comparing both files on %d of them", len(self._images[:_TRIED]))
        sensitivity = Sensitivity(calibrated, open_file(exact), self._images[:_TRIED])
        draft = out.with_name(f".{out.name}.{os.getpid()}.onnx")
        try:
            choice, loss = self._accurate(calibrated, sensitivity, exact, draft)
            _log.info("timing both files")
            slow, fast = processor_milliseconds(
                [open_file(path, 1) for path in (exact, draft)], self._splits.experiment.shape
            )
            os.replace(draft, out)
        finally:
            draft.unlink(missing_ok=True)
        return Quantised(
            **vars(loss),
            path=out,
            images=len(self._images),
            floats=choice.floats,
            distance=choice.distance,
            milliseconds=(slow, fast),
        )

    def _accurate(
        self, calibrated: Calibrated, sensitivity: Sensitivity, exact: Path, draft: Path
    ) -> tuple[Choice, Loss]:
        """Write a draft that loses little enough, with ever more parts in float if need be."""
        first = sensitivity.choose()
        before = self._measured(exact, "in float")
        for choice in chain([first], sensitivity.more(first)):
            calibrated.write(draft, choice.floats)
            after = self._measured(draft, f"in 8 bits, parts in float: {len(choice.floats)}")
            loss = Loss.between(before, after)
            if loss.drop <= self._max_drop:
                return choice, loss
        raise ExportError(_too_much(loss, choice, self._max_drop))

    def _measured(self, file: Path, about: str) -> Measure | None:
        """Return a file's metric, if the configuration has one and images for it."""
        data, experiment = self._splits.data, self._splits.experiment
        split = next((name for name in ("val", "test") if getattr(data, name)), None)
        if split is None or experiment.metric is None:
            return None
        _log.info("measuring the file on data.%s, %s", split, about)
        found = self._splits.evaluate(FileModel(file), getattr(self._splits, split), split)
        name = next((name for name in _HEADLINES if name in found), next(iter(found)))
        return Measure(name, f"data.{split}", found[name])


def _learned(path: Path) -> dict[str, tuple[float, float]]:
    """Return ranges that a step has trained with, which of a run's files last.pt keeps."""
    for file in (path, path.with_name("last.pt")):
        if path.suffix == ".pt" and file.is_file():
            found = ranges_in(read_checkpoint(file).get("step"))
            if found:
                _log.info(
                    "ranges of %d layers' inputs are those trained with: %s", len(found), file
                )
                return found
    return {}


def _too_much(loss: Loss, choice: Choice, max_drop: float) -> str:
    before, after = loss.accuracy or (0.0, 0.0)
    return (
        f"in 8 bits, parts in float: {len(choice.floats)}, {loss.metric} on {loss.split} falls "
        f"from {before:.4f} to {after:.4f}, by {loss.drop:.2f} points, and {max_drop:g} may be "
        f"lost; no file is kept: train some more with step.type=QuantisedStep "
        f"(docs/quantisation.md), calibrate on more images, or raise max_drop"
    )


def _splits(loaded: Inferencer) -> Splits:
    """Return the images that a model's configuration names, as pixels from 0 to 255."""
    experiment = _experiment(loaded)
    if experiment.data is None or experiment.data.train is None:
        raise ConfigError(
            f"int8 is calibrated on training images, and the configuration of {loaded.path} names "
            f"none; give CONFIG CHECKPOINT, with data.train in CONFIG"
        )
    data = experiment.data.prepared_by(PIXELS)
    return Splits(replace(experiment, data=data), loaded.device, loaded.class_names)


def _experiment(loaded: Inferencer) -> Experiment:
    """Return the whole experiment, of which a model needs a part."""
    if loaded.experiment.data is not None:
        return loaded.experiment
    tree: Mapping[str, Any] = core_config.parse(loaded.card.config, str(loaded.path))
    known = {name: tree[name] for name in _READ if name in tree}
    if own := dotted_types(known):
        raise CheckpointError(
            f"the images of {loaded.path} need {', '.join(own)}, and a file may not run code; if "
            f"you trust it, name its configuration as well: CONFIG {loaded.path}"
        )
    return read({**known, "model": untrained(known["model"])})[1]


def _training_images(splits: Splits, count: int, path: Path) -> list[Tensor]:
    found = splits.calibration(count, size=1)
    if not all(isinstance(x, Tensor) for x in found):
        raise ConfigError(f"int8 wants a model of images; that of {path} takes other inputs")
    return [x.cpu() for x in found if isinstance(x, Tensor)]
