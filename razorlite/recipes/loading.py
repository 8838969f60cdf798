"""From what training and exporting leave to a model that is ready to be used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn

from razorlite.core import config as core_config
from razorlite.core import shipped
from razorlite.core.config import Config
from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.core.registry import suggestion
from razorlite.data.preprocess import PIXELS
from razorlite.deploy import PLAIN, FileModel, HeatMap, Prediction, Predictor, View, read_meta
from razorlite.deploy.runtimes import META_NAME, SUFFIXES
from razorlite.engine.launch import DeviceChoice, choose_device
from razorlite.recipes.building import build, load_trained, untrained
from razorlite.recipes.card import (
    ModelCard,
    evaluation_decoding,
    evaluation_transforms,
    preprocess_of,
    read_card,
)
from razorlite.recipes.experiment import Experiment, read
from razorlite.space import Subnet
from razorlite.visual import draw_detections, draw_heat_map

_USED = ("model", "mutator", "prune", "shape")


class Inferencer(Predictor):
    """A trained or exported model by its file, ready to predict; see `Predictor`.

    Args:
        model: a run folder (best.pt in it, else last.pt), a checkpoint, an exported file; or, with
            `checkpoint`, a configuration file or the name of a shipped one.
        checkpoint: weights of the configuration's model, or an exported file of it.
        subnet: a subnet file instead of the configuration's or the checkpoint's.
        device: auto, cpu or cuda; exported files run on the CPU.
        views: ways in which each image is looked at, such as `razorlite.deploy.AUGMENTED`.

    Attributes:
        card: what the file says of the model.
        experiment: its configuration.
        path: its file.

    Raises:
        CheckpointError: there is no such file, it cannot be read, or does not say enough.
        ConfigError: the configuration is wrong, or an exported file comes with a subnet.
    """

    def __init__(
        self,
        model: str | Path,
        checkpoint: str | Path | None = None,
        *,
        subnet: str | Path | None = None,
        device: DeviceChoice = "auto",
        views: Sequence[View] = PLAIN,
    ) -> None:
        self.path = _file(Path(model)) if checkpoint is None else Path(checkpoint)
        exported = self.path.suffix in SUFFIXES
        if exported and subnet is not None:
            raise ConfigError(f"{self.path} is an exported file, which takes no subnet")
        if checkpoint is None:
            self.card, config = _alone(_card_of(self.path), self.path)
            self.experiment = core_config.build(config, Experiment)
            chosen: str | Path | Subnet | None = self.card.subnet
        else:
            config, self.experiment = read(model)
            self.card = _named(_card_of(self.path), config, self.experiment, self.path)
            chosen = self.experiment.subnet
        parts = self._exported() if exported else self._trained(subnet or chosen, device)
        data = config if checkpoint is not None else _data_of(self.card)
        super().__init__(**parts, views=views, decoding=evaluation_decoding(data))

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the labels; None where they are not known and numbers stand for them."""
        numbers = tuple(map(str, range(len(self.classes))))
        return None if self.classes == numbers else self.classes

    @staticmethod
    def list_models() -> list[str]:
        """Return the names of the shipped configurations, each a model to take a checkpoint."""
        return [shipped.name(path) for path in shipped.configs()]

    def draw(
        self, prediction: Prediction, path: str | Path | None = None, score_threshold: float = 0.3
    ) -> Image.Image:
        """Return the picture of an image with what was found in it.

        Args:
            prediction: of one of its images.
            path: PNG file to write, or None.
            score_threshold: lowest score that is drawn.

        Raises:
            DataError: there are no detections to draw.
            RunFolderError: the file cannot be written.
        """
        return draw_detections(
            prediction.pixels(),
            prediction.found(),
            classes=prediction.classes,
            score_threshold=score_threshold,
            path=path,
        )

    def draw_heat(
        self, prediction: Prediction, heat: HeatMap, path: str | Path | None = None
    ) -> Image.Image:
        """Return the picture of an image under a heat map of it.

        Args:
            prediction: of one of its images.
            heat: as `heat_map` returned it for that image.
            path: PNG file to write, or None.

        Raises:
            RunFolderError: the file cannot be written.
        """
        about = f"{heat.method} of {heat.module}"
        if heat.label is not None:
            about += f", {self.classes[heat.label]}"
        return draw_heat_map(
            prediction.pixels(),
            heat.values,
            heat.found,
            classes=self.classes,
            caption=about,
            path=path,
        )

    def _exported(self) -> dict[str, Any]:
        """Return the parts of a file that normalises by itself."""
        known = self.card.preprocess
        assert known is not None
        pixels = replace(PIXELS, transforms=known.transforms)
        classes = self.card.classes or ()
        return {"model": FileModel(self.path), "classes": classes, "preprocess": pixels}

    def _trained(self, subnet: str | Path | Subnet | None, device: DeviceChoice) -> dict[str, Any]:
        built = build(self.experiment, subnet)
        if built.is_supernet:
            raise CheckpointError(f"{self.path} is of a supernet; name a path of it by --subnet")
        load_trained(built, self.path, self.experiment)
        return {
            "model": built.model,
            "classes": self.card.classes or _numbers(built.model),
            "preprocess": self.card.preprocess,
            "device": choose_device(device),
        }


def load(
    model: str | Path,
    checkpoint: str | Path | None = None,
    *,
    subnet: str | Path | None = None,
    device: DeviceChoice = "auto",
    views: Sequence[View] = PLAIN,
) -> Inferencer:
    """Return a trained or exported model, ready to predict; takes what `Inferencer` takes."""
    return Inferencer(model, checkpoint, subnet=subnet, device=device, views=views)


def _card_of(path: Path) -> ModelCard:
    """Return what a checkpoint or an exported file says of its model."""
    if path.suffix not in SUFFIXES:
        return read_card(path)
    try:
        return ModelCard.from_meta(json.loads(read_meta(path).get(META_NAME, "")), path)
    except ValueError as error:
        raise CheckpointError(
            f"{path} does not say what it holds; write it by razorlite export"
        ) from error


def _file(path: Path) -> Path:
    if path.suffix in (".yaml", ".yml") and path.is_file():
        raise CheckpointError(f"{path} is a configuration; name a checkpoint as well")
    if path.is_file():
        return path
    if not path.is_dir():
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        raise CheckpointError(
            f"no run folder or file {path}; with the name of a configuration, name a checkpoint "
            f"as well{suggestion(path.name, [one.name for one in beside])}"
        )
    for name in ("checkpoints/best.pt", "checkpoints/last.pt"):
        if (path / name).is_file():
            return path / name
    raise CheckpointError(f"{path} holds no checkpoints/best.pt or last.pt; is it a run folder?")


def _named(card: ModelCard, config: Config, experiment: Experiment, path: Path) -> ModelCard:
    """Return what is known of a model whose configuration is named beside its file."""
    own = card.preprocess or preprocess_of(config, experiment)
    if own is None:
        raise _without_preprocess(path)
    own = replace(own, transforms=evaluation_transforms(config))
    return replace(card, preprocess=own, config=card.config or config.dump())


def _alone(card: ModelCard, path: Path) -> tuple[ModelCard, Config]:
    """Return what a file says of its model, and the part of its configuration that this needs."""
    if not card.config:
        raise CheckpointError(
            f"{path} does not carry its configuration; name that as well: CONFIG {path}"
        )
    if card.preprocess is None:
        raise _without_preprocess(path)
    tree = core_config.parse(card.config, str(path))
    steps = card.preprocess.transforms
    if steps is None:  # written before checkpoints said it
        steps = evaluation_transforms(_data_of(card))
    own = [*(tree.get("custom_imports") or []), *dotted_types([tree.get("model"), *(steps or ())])]
    if own:
        raise CheckpointError(
            f"{path} needs {', '.join(map(str, own))}, and a file may not run code; if you trust "
            f"it, name its configuration as well: CONFIG {path}"
        )
    config = core_config.load({name: untrained(tree[name]) for name in _USED if name in tree})
    return replace(card, preprocess=replace(card.preprocess, transforms=steps)), config


def _data_of(card: ModelCard) -> Config:
    """Return the `data` block of a card's configuration."""
    tree = core_config.parse(card.config, "the model's configuration")
    return core_config.load({"data": tree.get("data") or {}}, imports=False)


def _without_preprocess(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} does not say what its images went through; add a `data` block with mean and std "
        f"to the configuration"
    )


def dotted_types(value: Any) -> list[str]:
    """Return the types in a block that are paths of the user's own modules."""
    if isinstance(value, Mapping):
        own = [str(value["type"])] if "." in str(value.get("type", "")) else []
        return own + [kind for part in value.values() for kind in dotted_types(part)]
    return (
        [kind for part in value for kind in dotted_types(part)] if isinstance(value, list) else []
    )


def _numbers(model: nn.Module) -> list[str]:
    """Return numbers in the place of classes that are not known."""
    counts = [int(getattr(module, "num_classes", 0)) for module in model.modules()]
    return [str(number) for number in range(max(counts, default=0))]
