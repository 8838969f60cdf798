"""The `data` block of a configuration: splits, their loaders, what is done with pixels."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from razorlite.core.config import Factory
from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, Positive, Range, Whole, checked
from razorlite.data import IMAGENET_MEAN, IMAGENET_STD, Dataset, Preprocess, Transform
from razorlite.engine.config import TrainConfig

AUTO, _BATCH = "auto", "data.train.batch_size"


@checked
@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """Images of one split and how batches are made of them.

    Attributes:
        dataset: the images and what they show.
        transforms: what is done with each, in order.
        batch_size: images in a batch of one process; auto, for data.train, tries how many fit.
        num_workers: processes that read ahead; 0 reads in the training process.
    """

    dataset: Factory[Dataset]
    transforms: list[Transform] = field(default_factory=list)
    batch_size: Count | Literal["auto"] = 8
    num_workers: Whole = 0

    def __post_init__(self) -> None:
        if self.batch_size == AUTO and not isinstance(self, TrainLoaderConfig):
            raise ConfigError("auto is for data.train alone; name a number", key="batch_size")

    def images_of(self, dataset: Dataset) -> int:
        """Return the images of a batch of a data set; all of them are the most that auto takes."""
        return len(dataset) if self.batch_size == AUTO else self.images

    @property
    def images(self) -> int:
        """The images in a batch of one process; ConfigError where only training settles it."""
        if self.batch_size == AUTO:
            told = "take the config.yaml of its run folder, or set data.train.batch_size=8"
            raise ConfigError(f"is auto, which training settles: {told}", key=_BATCH)
        return int(self.batch_size)


@checked
@dataclass(frozen=True, kw_only=True)
class LastEpochs:
    """Other transforms for the end of training.

    Attributes:
        epochs: how many epochs, of `train.max_epochs`.
        transforms: what is done with each image in them, in the place of the others.
    """

    epochs: Count
    transforms: list[Transform]

    def check(self, train: TrainConfig, key: str) -> None:
        """Refuse a training that has no epochs before these.

        Args:
            train: the training.
            key: of it in the configuration.

        Raises:
            ConfigError: as described.
        """
        if train.max_epochs is None:
            raise ConfigError(
                f"counts back from {key}.max_epochs, which is not given; set it in the place of "
                f"{key}.max_steps, or data.train.last_epochs=null",
                key="data.train.last_epochs",
            )
        if self.epochs >= train.max_epochs:
            raise ConfigError(
                f"wants less than {key}.max_epochs, got {self.epochs} of {train.max_epochs}; "
                f"lower it, or set data.train.last_epochs=null",
                key="data.train.last_epochs.epochs",
            )


@checked
@dataclass(frozen=True, kw_only=True)
class TrainLoaderConfig(LoaderConfig):
    """The training images and how batches are made of them.

    Attributes:
        last_epochs: other transforms for the end of training, as RTMDet and YOLOX train without
            Mosaic and MixUp at last.
    """

    last_epochs: LastEpochs | None = None


@checked
@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The splits, and what all of them share.

    Attributes:
        train: what weights are trained on.
        val: what training is watched on, and the best checkpoint chosen by.
        test: what metrics are reported on.
        search: what a search scores on; by default images held out of `train`.
        holdout: share of `train` that a supernet does not train on, where `search` is not given.
        mean: of the red, green and blue channel on the scale 0 to 255 (blue, green, red: "bgr").
        std: likewise.
        channels: order of the colour channels that the model wants.
        pad_multiple: sides of a batch are padded to multiples of it, in pixels.
    """

    train: TrainLoaderConfig | None = None
    val: LoaderConfig | None = None
    test: LoaderConfig | None = None
    search: LoaderConfig | None = None
    holdout: Annotated[float, Range(above=0, below=1)] = 0.2
    mean: list[float] = field(default_factory=lambda: list(IMAGENET_MEAN))
    std: list[Positive] = field(default_factory=lambda: list(IMAGENET_STD))
    channels: Literal["rgb", "bgr"] = "rgb"
    pad_multiple: Count = 32

    def __post_init__(self) -> None:
        _ = self.preprocess  # wrong numbers are refused when the block is read

    @property
    def preprocess(self) -> Preprocess:
        """What is done with the pixels before the model sees them."""
        return Preprocess(
            mean=tuple(self.mean),
            std=tuple(self.std),
            channels=self.channels,
            pad_multiple=self.pad_multiple,
        )

    @property
    def search_is_bare(self) -> bool:
        """Whether a search sees images as they are stored, though training is watched on others."""
        watched, scored = self.val, self.search
        return bool(watched and scored and watched.transforms and not scored.transforms)

    def prepared_by(self, preprocess: Preprocess) -> "DataConfig":
        """Return the same splits with pixels prepared in another way."""
        return replace(
            self,
            mean=list(preprocess.mean),
            std=list(preprocess.std),
            channels=preprocess.channels,
            pad_multiple=preprocess.pad_multiple,
        )
