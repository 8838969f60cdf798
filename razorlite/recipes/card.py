"""What a checkpoint says of its model: classes, preprocessing, subnet, configuration."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from razorlite.core.config import Config
from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.core.version import __version__
from razorlite.data import Decoding, Preprocess
from razorlite.engine.checkpoint_io import read_checkpoint
from razorlite.recipes.data_config import DataConfig
from razorlite.recipes.experiment import Experiment
from razorlite.recipes.foreign import stated_preprocess
from razorlite.space import Subnet

__all__ = [
    "ModelCard",
    "check_preprocess",
    "evaluation_decoding",
    "evaluation_transforms",
    "preprocess_of",
    "read_card",
    "read_with_card",
]

_EVALUATED = ("test", "val", "search")  # the first one that there is


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What has to be known of weights to use them; "meta" of every checkpoint that is written.

    Attributes:
        model: type of the model, as in its configuration.
        classes: names of the labels in their order; None where there were no images to tell.
        preprocess: what the model's images went through; None where there were none.
        subnet: what the model was exported or slimmed to.
        config: the merged configuration as YAML text.
        unfrozen: modules that learn although their configuration freezes them, as they had no
            weights to keep.
        data: digests of the images and annotations that it is trained and watched on, by split
            (see `razorlite.data.dataset_digest`); a resumed run must have the same.
        trained_on: of a supernet, hashes of the images that its weights have been trained on (see
            `razorlite.data.image_hashes`); None where it is not known.
        version: of the razorlite that wrote it.
    """

    model: str = ""
    classes: tuple[str, ...] | None = None
    preprocess: Preprocess | None = None
    subnet: Subnet | None = None
    config: str = ""
    unfrozen: tuple[str, ...] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    trained_on: frozenset[int] | None = None
    version: str = field(default=__version__)

    def to_meta(self) -> dict[str, Any]:
        """Return plain values, which checkpoints may hold."""
        return {
            "razorlite": self.version,
            "config": self.config,
            "model": self.model,
            "classes": None if self.classes is None else list(self.classes),
            "preprocess": None if self.preprocess is None else self.preprocess.to_dict(),
            "subnet": None if self.subnet is None else _subnet(self.subnet),
            "unfrozen": list(self.unfrozen),
            "data": dict(self.data),
            "trained_on": None if self.trained_on is None else _packed(self.trained_on),
        }

    @classmethod
    def from_meta(cls, meta: Any, path: object) -> ModelCard:
        """Return what the "meta" of a file tells; other people's tell of preprocessing at most.

        Args:
            meta: a file's "meta", if it has one.
            path: the file, for messages.

        Raises:
            CheckpointError: the file is ours, and what it says makes no sense.
        """
        if not isinstance(meta, Mapping) or "razorlite" not in meta:
            return cls(version="", preprocess=stated_preprocess(meta))
        try:
            return cls(
                model=str(meta.get("model") or ""),
                classes=_names(meta.get("classes")),
                preprocess=_preprocess(meta.get("preprocess")),
                subnet=_read_subnet(meta.get("subnet")),
                config=str(meta.get("config") or ""),
                unfrozen=_names(meta.get("unfrozen")) or (),
                data={str(name): str(digest) for name, digest in (meta.get("data") or {}).items()},
                trained_on=_unpacked(meta.get("trained_on")),
                version=str(meta["razorlite"]),
            )
        except (ConfigError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"{path}: what it says of its model makes no sense ({error}); was it edited? Use "
                f"another copy"
            ) from error


def preprocess_of(config: Config, experiment: Experiment) -> Preprocess | None:
    """Return what images go through in evaluation, as a configuration says.

    Args:
        config: the merged configuration.
        experiment: its typed form.
    """
    if experiment.data is None:
        return None
    return replace(experiment.data.preprocess, transforms=evaluation_transforms(config))


def evaluation_transforms(config: Config) -> tuple[Mapping[str, Any], ...] | None:
    """Return the blocks of what is done to an image in evaluation; None where they are not plain.

    Those of the first of data.test, data.val and data.search that the configuration has.
    """
    for part in _EVALUATED:
        if config.get(f"data.{part}") is not None:
            blocks = config.get(f"data.{part}.transforms") or ()
            plain = all(isinstance(block, Mapping) for block in blocks)
            return tuple(blocks) if plain else None
    return ()


def evaluation_decoding(config: Config) -> Decoding:
    """Return how image files are read in evaluation: of the split that `evaluation_transforms` has.

    Raises:
        ConfigError: a value is none that can be.
    """
    for part in _EVALUATED:
        if config.get(f"data.{part}") is not None:
            return Decoding(**(config.get(f"data.{part}.dataset.decoding") or {}))
    return Decoding()


def read_card(path: str | Path) -> ModelCard:
    """Return what a checkpoint says of its model; nothing, if it is not ours.

    Raises:
        CheckpointError: it cannot be read.
    """
    return read_with_card(path)[1]


def read_with_card(path: str | Path) -> tuple[dict[str, Any], ModelCard]:
    """Return a checkpoint's content and what it says of its model, read once.

    Raises:
        CheckpointError: it cannot be read.
    """
    content = read_checkpoint(path)
    return content, ModelCard.from_meta(content.get("meta"), path)


def check_preprocess(card: ModelCard, data: DataConfig | None, path: object) -> None:
    """Refuse weights that have been trained on images of other preprocessing than the data's.

    Args:
        card: what the weights' file says.
        data: the configuration's `data` block.
        path: the weights' file, for messages.

    Raises:
        ConfigError: both are known and differ; the message says what to set.
    """
    theirs = card.preprocess
    if theirs is None or data is None or theirs.same_pixels(data.preprocess):
        return
    mean, std = (list(values) for values in (theirs.mean, theirs.std))
    raise ConfigError(
        f"{path} was trained on images of {theirs}, but `data` has {data.preprocess}; set "
        f"data.channels={theirs.channels}, data.mean={mean} and data.std={std}"
    )


def _subnet(subnet: Subnet) -> dict[str, Any]:
    channels = {name: [int(i) for i in kept] for name, kept in subnet.channels.items()}
    return {
        "choices": dict(subnet.choices),
        "channels": channels,
        "dropped": {kind: list(gone) for kind, gone in subnet.dropped.items()},
        "fingerprint": subnet.fingerprint,
    }


def _read_subnet(values: Any) -> Subnet | None:
    if values is None:
        return None
    channels = {str(name): tuple(kept) for name, kept in values.get("channels", {}).items()}
    choices = {str(place): name for place, name in values.get("choices", {}).items()}
    return Subnet(
        choices=choices,
        channels=channels,
        dropped={str(kind): tuple(gone) for kind, gone in values.get("dropped", {}).items()},
        fingerprint=str(values.get("fingerprint")),
    )


def _names(values: Any) -> tuple[str, ...] | None:
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(name, str) for name in values):
        raise ValueError(f"classes are a list of names, got {values!r:.80}")
    return tuple(values)


def _preprocess(values: Any) -> Preprocess | None:
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise ValueError(f"preprocess is a block of values, got {values!r:.80}")
    return Preprocess.from_dict(values)


def _packed(hashes: frozenset[int]) -> str:
    """Return 64-bit hashes as text, 11 characters each."""
    data = b"".join(value.to_bytes(8, "big") for value in sorted(hashes))
    return base64.b64encode(data).decode()


def _unpacked(text: Any) -> frozenset[int] | None:
    if text is None:
        return None
    data = base64.b64decode(text, validate=True)
    if len(data) % 8:
        raise ValueError(f"trained_on has {len(data)} bytes, expected a multiple of 8")
    return frozenset(int.from_bytes(data[i : i + 8], "big") for i in range(0, len(data), 8))
