"""The images of an experiment: which split is used for what, and loaders over them."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from razorlite.core.compute import Compute
from razorlite.core.errors import ConfigError, DataError
from razorlite.data import (
    Dataset,
    Loader,
    Transform,
    build_loader,
    image_hashes,
    relabelled,
    split_holdout,
)
from razorlite.data.usable import need_in_place, need_objects, tell_copies
from razorlite.evaluation import evaluate
from razorlite.evaluation.metric import Metric, need_value
from razorlite.models.heads.class_head import class_counts
from razorlite.recipes.card import ModelCard
from razorlite.recipes.classes import compare, compare_metric, output_names, same_names
from razorlite.recipes.data_config import DataConfig, LoaderConfig
from razorlite.recipes.experiment import Experiment
from razorlite.structures import Inputs

_log = logging.getLogger("razorlite")


class Splits:
    """Data sets and loaders of an experiment, each built when first asked for.

    All have the same labels: what they list is matched by name.

    Args:
        experiment: the configuration.
        device: where batches go.
        classes: names in the order of the labels, as a checkpoint tells them; by default those
            of the training images.
        order: an order of the labels to take where the training images have just these names.

    Attributes:
        few: batches that loaders stop after, to try a run out; None for all.
    """

    few: int | None = None

    def __init__(
        self,
        experiment: Experiment,
        device: torch.device,
        classes: Sequence[str] | None = None,
        order: Sequence[str] | None = None,
    ) -> None:
        self.experiment, self.device, self._order = experiment, device, order
        self._classes = None if classes is None else tuple(classes)
        self._outputs = 0  # of the model; more than the classes where the data lack some

    @cached_property
    def compute(self) -> Compute:
        """How the experiment's models compute.

        Raises:
            ConfigError: the device cannot compute in this precision.
        """
        return self.experiment.compute(self.device)

    @cached_property
    def data(self) -> DataConfig:
        """The `data` block."""
        if self.experiment.data is None:
            raise ConfigError("the configuration has no `data` block; add one, or use it as _base_")
        return self.experiment.data

    def trained_by(self, experiment: Experiment) -> "Splits":
        """Return the same images for an experiment that differs in how it trains."""
        other = copy.copy(self)
        other.experiment = experiment
        other.__dict__.pop("compute", None)  # as the `train` block says
        return other

    def match(self, model: nn.Module, part: str = "train") -> None:
        """Compare a model with a split's classes; see `compare`.

        Raises:
            ConfigError: the model tells fewer classes apart than the images have.
        """
        if part == "train" and self.experiment.without_data:
            compare(model, self.classes, where="distiller.teacher")
            return
        dataset: Dataset = getattr(self, part)
        compare(model, dataset.classes, where=f"data.{part}", dataset=dataset)
        self._outputs = max(class_counts(model).values(), default=0)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels; without training images the teacher's, else val's, else none."""
        if not self.experiment.without_data:
            return tuple(self.train.classes)
        return self._classes or (() if self.val is None else tuple(self.val.classes))

    @cached_property
    def holds_out(self) -> bool:
        """Whether the search's images are taken out of the training images."""
        return self.is_supernet and self.data.search is None

    @property
    def is_supernet(self) -> bool:
        """Whether a supernet is trained, not one of its paths."""
        return self.experiment.mutator is not None and self.experiment.subnet is None

    @cached_property
    def train(self) -> Dataset:
        """What weights are trained on."""
        return self._parts[0]

    @cached_property
    def search(self) -> Dataset:
        """What a search scores on."""
        return self._parts[1] if self.data.search is None else self._like_train("search")

    @cached_property
    def val(self) -> Dataset | None:
        """What training is watched on."""
        if self.data.val is not None:
            return self._like_train("val")
        return self.search if self.holds_out else None

    @cached_property
    def test(self) -> Dataset:
        """What metrics are reported on; without a list of classes it brings its own."""
        dataset = self._config("test").dataset()
        return self._named(dataset, "test", self._classes or dataset.classes)

    @cached_property
    def _parts(self) -> tuple[Dataset, Dataset]:
        whole = self._config("train").dataset()
        ordered = self._order is not None and same_names(self._order, whole.classes)
        names = self._classes or (self._order if ordered else None) or whole.classes
        whole = self._named(whole, "train", names, complete=True)
        self._classes = tuple(whole.classes)
        if not self.holds_out:
            return whole, whole.subset([])
        kept, held = split_holdout(whole, self.data.holdout)
        return whole.subset(kept), whole.subset(held)

    def _like_train(self, part: str) -> Dataset:
        """Return a split with the labels of the training images."""
        names = self._classes or (self.classes if self.data.train is not None else None)
        dataset = self._config(part).dataset()
        return self._named(dataset, part, names or dataset.classes)

    def _named(
        self, dataset: Dataset, part: str, classes: Sequence[str], complete: bool = False
    ) -> Dataset:
        """Return a split with the labels of a list of classes."""
        reference = "the checkpoint" if part == "train" else "the model"
        return relabelled(
            dataset, classes, name=f"data.{part}", reference=reference, complete=complete
        )

    def train_loader(self, some: Dataset | None = None, size: int | None = None) -> Loader:
        """Return shuffled, transformed batches; a last one that is not full is left out.

        Args:
            some: images to take instead of all training images; all of them are in a batch.
            size: images of a batch in the place of the configuration's.
        """
        config, dataset = self._config("train"), some or self.train
        config = replace(config, batch_size=size or config.batch_size)
        need_objects(self.train, "data.train")
        full = some is None and len(dataset) >= config.images
        return self._loader(dataset, config, training=True, drop_last=full, switch=self._switch())

    def _switch(self) -> tuple[int, list[Transform]] | None:
        """Return from which epoch on training takes other transforms, and these."""
        last = self.data.train.last_epochs if self.data.train else None
        train = self.experiment.train
        if last is None or train is None or train.max_epochs is None:
            return None
        return train.max_epochs - last.epochs, last.transforms

    def eval_loader(self, dataset: Dataset, part: str, *, alone: bool = False) -> Loader:
        """Return batches in order; a detector's images may be resized and padded alone.

        Args:
            dataset: what to load.
            part: split whose transforms are used; "search" falls back to val's or test's.
            alone: give this process all images, whatever the number of processes; batches are made
                once and kept.
        """
        need_in_place(dataset, self._config(part).transforms, f"data.{self.part(part)}")
        own = {"rank": 0, "world_size": 1, "keep_batches": True} if alone else {}
        return self._loader(dataset, self._config(part), training=False, **own)

    def calibration(self, batches: int, size: int | None = None) -> list[Inputs]:
        """Return inputs of some fixed training batches, as the search's images look; none of 0.

        Args:
            batches: how many.
            size: images in each; those of a training batch by default.
        """
        if not batches:
            return []
        size = size or self._config("train").images
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(0))
        some = self.train.subset(order[: batches * size].tolist())
        config = self._config("search")
        whole = LoaderConfig(
            dataset=config.dataset, transforms=config.transforms, batch_size=size, num_workers=0
        )
        loader = self._loader(some, whole, training=False, rank=0, world_size=1)
        return [batch.inputs for batch in loader]

    def metric(
        self, dataset: Dataset, part: str, value: str | None = None, entry: str = ""
    ) -> Metric:
        """Return the configured metric for a data set's classes.

        Args:
            dataset: what will be evaluated.
            part: split that it is, for messages.
            value: name of one that the metric must give.
            entry: where the configuration names that.

        Raises:
            ConfigError: there is no `metric` block, or it gives no such value.
            DataError: there is no object to score on.
        """
        if self.experiment.metric is None:
            raise ConfigError("the configuration has no `metric`; add metric: {type: CocoMetric}")
        need_objects(dataset, f"data.{part}")
        tell_copies(dataset, f"data.{part}")
        metric = self.experiment.metric()
        compare_metric(metric, dataset.classes)
        if hasattr(metric, "classes") and metric.classes is None:
            metric.classes = output_names(dataset.classes, self._outputs)
        need_value(metric, value, entry)
        return metric

    def evaluate(
        self, model: nn.Module, dataset: Dataset, part: str, *, metric: Metric | None = None
    ) -> dict[str, float]:
        """Return a metric's values, by default the configured one's, of a model on a data set."""
        loader, metric = self.eval_loader(dataset, part), metric or self.metric(dataset, part)
        return evaluate(model, loader, metric, autocast=self.compute.autocast)

    def check_search_split(self, forced: bool) -> None:
        """Refuse to score a search on images whose metrics are reported.

        Raises:
            DataError: splits overlap and it is not forced; names an image.
        """
        if self.data.test is None or forced:
            return
        shared = sorted(set(self.search.keys) & set(self.test.keys))
        if shared:
            raise DataError(
                f"the search would score on {len(shared)} of the {len(self.search)} images that "
                f"test metrics are reported on (such as {shared[0]}), which makes those metrics "
                f"worthless; set data.search to other images, or search.allow_test_split=true"
            )

    def trained_on(self, known: ModelCard) -> frozenset[int] | None:
        """Return the images that a supernet is trained on, and was before.

        Args:
            known: of the weights that training starts from.
        """
        if not self.is_supernet:
            return None
        return frozenset(image_hashes(self.train)) | (known.trained_on or frozenset())

    def check_held_out(self, known: ModelCard, path: str | Path) -> None:
        """Refuse to hold out images that a supernet was trained on.

        Args:
            known: what the supernet's checkpoint says.
            path: the checkpoint, for messages.

        Raises:
            DataError: it was; the message counts them.
        """
        if known.trained_on is None:
            _log.warning(
                "%s does not say which images it was trained on; if any of them is among the %d "
                "held out here, the search's scores are too good",
                path, len(self.search),
            )  # fmt: skip
        elif seen := known.trained_on.intersection(image_hashes(self.search)):
            raise DataError(
                f"{path} was trained on {len(seen)} of the {len(image_hashes(self.search))} images "
                f"that are held out here, so that scores on them mean nothing; use the data.train "
                f"and data.holdout that it was trained with (the holdout is {self.data.holdout} "
                f"now), or train it anew"
            )

    def check_search_is_new(self) -> None:
        """Refuse a split for the search that has images of the training split.

        Raises:
            DataError: it does; names one.
        """
        if self.holds_out or self.data.train is None:
            return
        shared = sorted(set(self.search.keys) & set(self.train.keys))
        if shared:
            raise DataError(
                f"data.search has {len(shared)} of the images that the supernet is trained on "
                f"(such as {shared[0]}), so that scores on them mean nothing; set data.search to "
                f"other images, or leave it out and let data.holdout take some from data.train"
            )

    def part(self, expected: str) -> str:
        """Return the split whose block tells how a split is loaded: it, or what stands in for it.

        Raises:
            ConfigError: there is none.
        """
        others = ("val", "test", "train") if expected in ("search", "val") else ()
        for name in (expected, *others):
            if getattr(self.data, name) is not None:
                return str(name)
        raise ConfigError(f"the configuration has no data.{expected}; add it")

    def _config(self, part: str) -> LoaderConfig:
        config: LoaderConfig = getattr(self.data, self.part(part))
        return config

    def _loader(self, dataset: Dataset, config: LoaderConfig, **settings: object) -> Loader:
        if self.few is not None:
            dataset = dataset.subset(range(min(len(dataset), self.few * config.images)))
        return build_loader(
            dataset,
            transforms=config.transforms,
            batch_size=config.images,
            num_workers=config.num_workers,
            seed=self.experiment.seed,
            preprocess=self.data.preprocess,
            device=self.device,
            layout=self.compute.layout,
            **settings,  # type: ignore[arg-type]
        )
