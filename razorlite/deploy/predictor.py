"""Predictions of a trained model on images as they come."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn

from razorlite.core.compute import Compute
from razorlite.core.errors import ConfigError, DataError
from razorlite.data import Decoding, Normalise, Preprocess, Transform, collate
from razorlite.data.transforms.scaled_back import apply_watched, moved_by
from razorlite.deploy.heat import HeatMap, HeatMethod, heat_map
from razorlite.deploy.prediction import Prediction
from razorlite.deploy.runtimes import FileModel
from razorlite.deploy.sources import Picture, pictures
from razorlite.deploy.views import PLAIN, View, merged
from razorlite.evaluation.evaluate import eval_mode
from razorlite.structures import Batch, Detections, Target, input_names


class Predictor:
    """Runs a trained model on images of any size and kind.

    An image goes through the same transforms and normalisation as in evaluation, so predictions are
    those that the metrics were computed on.

    Args:
        model: has `predict`, as detectors and classifiers here have; it is put on the device.
        classes: names of its labels.
        preprocess: what its images go through.
        transforms: what is done to an image before, such as `Resize`, nothing random; those of
            `preprocess` by default.
        device: where it runs.
        views: ways in which each image is looked at; what they find is merged, see `View`.
        decoding: how image files are read.

    Raises:
        ConfigError: the model takes other inputs than images, or there are no views.

    Attributes:
        model, classes, preprocess, transforms, device, views, decoding: as given.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: Sequence[str],
        preprocess: Preprocess,
        transforms: Sequence[Transform] | None = None,
        device: torch.device | str = "cpu",
        views: Sequence[View] = PLAIN,
        decoding: Decoding | None = None,
    ) -> None:
        if names := input_names(model):
            raise ConfigError(
                f"{type(model).__name__} takes {', '.join(names)}, not single images; give a batch "
                f"of its data set to its own `predict`"
            )
        if not views:
            raise ConfigError("views wants at least one View; View() is the image as it is")
        self.device, self.views = torch.device(device), tuple(views)
        self.decoding = decoding or Decoding()
        self.model = Compute(self.device).place(model)
        self.classes, self.preprocess = tuple(classes), preprocess
        self.transforms = list(preprocess.image_transforms() if transforms is None else transforms)
        self._normalise = Normalise(preprocess, self.device)

    def __call__(self, source: Any, *, batch_size: int = 1) -> list[Prediction]:
        """Return the predictions on all images of a source, see `razorlite.deploy.pictures`."""
        return list(self.stream(source, batch_size=batch_size))

    def stream(self, source: Any, *, batch_size: int = 1) -> Iterator[Prediction]:
        """Yield predictions in the order of the images, a batch at a time.

        An image that cannot be read gives a prediction with its fault, and the others go on.

        Raises:
            ConfigError: `batch_size` is below 1, or transforms cut or move an image in which a
                detector is to find something.
            DataError: there is nothing to predict on.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size wants a number of at least 1, got {batch_size}")
        return self._stream(source, batch_size)

    def _stream(self, source: Any, batch_size: int) -> Iterator[Prediction]:
        todo = pictures(source, self.decoding)
        while some := list(islice(todo, batch_size)):
            ready = [self._transformed(picture) for picture in some]
            made = iter(self._predict([one for one in ready if isinstance(one, _Ready)]))
            for one in ready:
                yield one if isinstance(one, Prediction) else next(made)

    def pixels(self, source: Any, limit: int) -> list[Tensor]:
        """Return up to `limit` readable images of a source, (3, H, W) uint8, as they are.

        Raises:
            DataError: there is none.
        """
        found = (picture.image for picture in pictures(source, self.decoding))
        some = list(islice((image for image in found if image is not None), limit))
        if not some:
            raise DataError(f"no image of {source} can be read")
        return some

    def heat_map(
        self,
        source: Any,
        module: str,
        *,
        method: HeatMethod = "activation",
        detection: int = 0,
    ) -> HeatMap:
        """Return where a module responds in the first image of a source.

        Args:
            source: as for a call; (3, H, W) uint8 in memory, for instance.
            module, method, detection: see `razorlite.deploy.heat_map`.

        Raises:
            ConfigError: the model is an exported file, has no such module, or it gives no maps; or
                transforms cut or move the image.
            DataError: the image cannot be read, or there are fewer detections than that.
            ExportError: the detector has no scores that can be differentiated.
        """
        if isinstance(self.model, FileModel):
            raise ConfigError("heat maps want a checkpoint or run: an exported file has no modules")
        ready = self._transformed(next(pictures(source, self.decoding)))
        if isinstance(ready, Prediction):
            raise DataError(f"{ready.name}: {ready.fault}")
        ready.need_in_place()
        batch = self._batch([ready], View())
        return heat_map(self.model, batch, module, method=method, detection=detection)

    @torch.no_grad()
    def _predict(self, some: Sequence["_Ready"]) -> list[Prediction]:
        if not some:
            return []
        by_view = [self._outputs(some, view) for view in self.views]
        return [one.prediction(list(outputs)) for one, *outputs in zip(some, *by_view, strict=True)]

    def _outputs(self, some: Sequence["_Ready"], view: View) -> list[Any]:
        """Return what the model finds in one view, in pixels of the original images."""
        batch = self._batch(some, view)
        with eval_mode(self.model):
            found = cast(Any, self.model).predict(batch)
        widths = [target.original_size[1] for target in batch.targets]
        return [
            view.back(output, width) if isinstance(output, Detections) else output
            for output, width in zip(found, widths, strict=True)
        ]

    def _batch(self, some: Sequence["_Ready"], view: View) -> Batch:
        items = [view.seen(one.image, one.target) for one in some]
        images, sizes = collate([image for image, _ in items], self.preprocess.pad_multiple)
        targets = [target for _, target in items]
        return Batch(self._normalise(images, sizes), targets, tuple(sizes))

    def _transformed(self, picture: Picture) -> "_Ready | Prediction":
        """Return an image as the model takes it, or why there is none."""
        blank = Prediction(
            picture.name,
            self.classes,
            fault=picture.fault,
            frame=picture.frame,
            decoding=self.decoding,
        )
        if picture.image is None:
            return blank
        size = (picture.image.shape[-2], picture.image.shape[-1])
        kept = None if picture.on_disk else picture.image
        try:
            seen = apply_watched(self.transforms, picture.image)
        except OSError as error:  # of an image so long and narrow that it would become huge
            return replace(blank, fault=str(error))
        return _Ready(replace(blank, size=size, image=kept), *seen)


@dataclass(frozen=True)
class _Ready:
    """An image as a model takes it.

    Attributes:
        blank: its prediction, to be filled.
        image, target: transformed.
        moved: the transform after which boxes cannot be scaled back; "" if there is none.
    """

    blank: Prediction
    image: Tensor
    target: Target
    moved: str = ""

    def need_in_place(self) -> None:
        """Refuse an image in which places are not those of the original.

        Raises:
            ConfigError: as described.
        """
        if self.moved:
            raise ConfigError(f"{self.blank.name}: {moved_by(self.moved)}")

    def prediction(self, outputs: Sequence[Any]) -> Prediction:
        """Return what several views of the image found."""
        if isinstance(outputs[0], Detections):
            self.need_in_place()
            return replace(self.blank, detections=merged(outputs).to("cpu"))
        return replace(self.blank, probabilities=torch.stack(list(outputs)).mean(0).cpu())
