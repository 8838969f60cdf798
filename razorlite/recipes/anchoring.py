"""The command `data anchors`: anchors fitted to the training images of a configuration."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from razorlite.core import config as core_config
from razorlite.core.config import Config
from razorlite.core.errors import ConfigError, DataError, RunFolderError
from razorlite.core.files import write_text_atomic
from razorlite.data.anchor_fitting import Anchors, Array, Fit, fit_anchors, measure
from razorlite.data.dataset import Dataset
from razorlite.data.joining import records_of
from razorlite.models.tasks.anchors import AnchorGenerator
from razorlite.recipes.building import build_model, untrained
from razorlite.recipes.experiment import ConfigLike, Experiment, load_config, read
from razorlite.recipes.paths import located, portable

_CLEARLY = 0.05  # of the boxes, and of the mean of their best IoUs
_HEADS = ("bbox_head", "rpn_head")


@dataclass(frozen=True)
class FittedAnchors:
    """Anchors of a configuration before and after fitting.

    Attributes:
        key: of the anchors in the configuration, such as "model.rpn_head.anchor_generator".
        boxes: how many boxes they were fitted to.
        before: the configuration's.
        after: the fitted ones.
    """

    key: str
    boxes: int
    before: Fit
    after: Fit

    def to_dict(self) -> dict[str, Any]:
        """Return all as plain values."""
        sides = {"before": self.before.to_dict(), "after": self.after.to_dict()}
        return {"key": self.key, "boxes": self.boxes, **sides}

    @property
    def clearly_better(self) -> bool:
        """Whether 5 % more of the boxes have an anchor of an IoU of 0.5, or their mean is so."""
        pairs = [
            (self.before.mean, self.after.mean),
            (self.before.recall[0.5], self.after.recall[0.5]),
        ]
        return any(after >= before + _CLEARLY for before, after in pairs)

    def text(self, base: str) -> str:
        """Return a configuration over `base` that has the fitted anchors."""
        body = {"_base_": base, **self.tree()}
        return self.comment() + yaml.safe_dump(body, sort_keys=False, default_flow_style=None)

    def comment(self) -> str:
        """Return a line that says what the fitted anchors reach, and the others."""
        pairs = [
            f"{iou} {share:.3f} ({self.before.recall[iou]:.3f} before)"
            for iou, share in self.after.recall.items()
        ]
        return f"# Anchors fitted to {self.boxes} boxes; recall at IoU {', '.join(pairs)}.\n"

    def tree(self) -> dict[str, Any]:
        """Return the keys of a configuration that give the model the fitted anchors."""
        found = self.after.to_dict()
        tree: dict[str, Any] = {
            "type": "AnchorGenerator",
            "strides": list(self.after.anchors.strides),
            "scales": found["scales"],
            "ratios": found["ratios"],
            "octave_base_scale": None,
            "scales_per_octave": None,
        }
        for part in reversed(self.key.split(".")):
            tree = {part: tree}
        return tree


def fit_config_anchors(
    config: ConfigLike, overrides: Any = (), *, out: str | Path | None = None, seed: int = 0
) -> FittedAnchors:
    """Fit a detector's anchors to its training images; their number at a cell stays.

    Boxes count as they lie in images that fit into the configuration's `shape`.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        overrides: "a.b=value" each, as after --set.
        out: a configuration to write, over a file, or in full where there are overrides; it must
            not exist.
        seed: of all that is drawn.

    Raises:
        ConfigError: the model has no anchors, or there is no `data.train`.
        DataError: the images have no boxes in files.
        RunFolderError: the file is there already, or cannot be written.
    """
    if out is not None and Path(out).exists():
        raise RunFolderError(f"{out} is there already; name another file or remove it")
    loaded, experiment = read(config, overrides)
    fitted = _fitted(loaded, experiment, seed)
    if fitted is None:
        raise ConfigError(f"{experiment.model.type} has no anchors to fit", key="model")
    if out is not None:
        write_text_atomic(out, _text(config, overrides, fitted, Path(out).parent))
    return fitted


def _text(config: ConfigLike, overrides: Any, fitted: FittedAnchors, folder: Path) -> str:
    """Return a configuration with the fitted anchors, as a file of a folder."""
    merged = load_config(config, overrides)
    if isinstance(config, str | Path) and merged.path is not None and not overrides:
        return fitted.text(str(merged.path.resolve()))
    whole = core_config.load(portable(located(merged), folder), fitted.tree())
    return fitted.comment() + whole.dump()


def better_anchors(config: ConfigLike) -> FittedAnchors | None:
    """Return anchors that fit a configuration's training images clearly better than its own.

    Raises:
        ConfigError: there is no `data.train`.
        DataError: the images have no boxes in files.
    """
    fitted = _fitted(*read(config), seed=0)
    return fitted if fitted is not None and fitted.clearly_better else None


def _fitted(loaded: Config, experiment: Experiment, seed: int) -> FittedAnchors | None:
    """Return a model's anchors, fitted; None where it has none."""
    found = _generator(untrained(loaded.tree["model"]))
    if found is None:
        return None
    key, generator = found
    boxes = _boxes(experiment)
    own = Anchors(generator.strides, *_shape(generator))
    return FittedAnchors(key, len(boxes), measure(boxes, own), fit_anchors(boxes, own, seed=seed))


def lines(fitted: FittedAnchors) -> list[str]:
    """Return in words what anchors were and are."""
    rows = [f"{fitted.key}, {fitted.boxes} boxes"]
    for name, fit in (("before", fitted.before), ("after", fitted.after)):
        told = fit.to_dict()
        recall = "  ".join(f"{iou} {share:.3f}" for iou, share in told["recall"].items())
        rows.append(f"{name:6}  scales {told['scales']}  ratios {told['ratios']}")
        rows.append(f"        mean of best IoUs {told['mean_iou']:.3f}; recall at IoU {recall}")
    return rows


def _generator(block: dict[str, Any]) -> tuple[str, AnchorGenerator] | None:
    model = build_model({"model": block})
    for name in _HEADS:
        anchors = getattr(getattr(model, name, None), "anchors", None)
        if isinstance(anchors, AnchorGenerator):
            return f"model.{name}.anchor_generator", anchors
    return None


def _shape(generator: AnchorGenerator) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return a generator's scales, in strides, and ratios, from the boxes of its first level."""
    base = generator.base[0].double().numpy()
    sides = base[:, 2:] - base[:, :2]
    scales = np.sqrt(sides.prod(1)) / generator.strides[0]
    ratios = sides[:, 1] / sides[:, 0]
    return tuple(_distinct(scales)), tuple(_distinct(ratios))


def _distinct(values: Array) -> list[float]:
    return sorted({round(float(value), 4) for value in values})


def _boxes(experiment: Experiment) -> Array:
    """Return (N, 4) the boxes of training images, in pixels of images that fit `shape`."""
    if experiment.data is None or experiment.data.train is None:
        raise ConfigError("has no data.train, whose boxes anchors are fitted to", key="data")
    dataset: Dataset = experiment.data.train.dataset()
    records = records_of(dataset)
    if not records:
        raise DataError("data.train has no boxes in files; anchors are fitted to COCO, VOC or YOLO")
    height, width = experiment.shape
    parts = [r.boxes * min(height / r.size[0], width / r.size[1]) for r in records]
    boxes: Array = np.concatenate([np.zeros((0, 4)), *parts])
    boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)]
    if not len(boxes):
        raise DataError("data.train shows no objects; anchors are fitted to their boxes")
    return boxes
